// Proper rotation that brings one set of points closest to another.
#pragma once

namespace tito_fast {

// Row-major 3 x 3.
struct Matrix3 {
  double at[3][3];
};

// The rotation R (det R = +1) that maximises trace(R^T covariance), where
// covariance[a][b] = sum_i x_1[i][a] x_0[i][b]; R x_0 is then as close to x_1 as rotations allow.
// Rank one: the smallest rotation of the one axis onto the other. Rank zero: the identity.
Matrix3 kabsch_rotation(const Matrix3& covariance);

}  // namespace tito_fast
