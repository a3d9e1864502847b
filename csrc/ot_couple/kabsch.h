// Proper rotation that brings one set of points closest to another: on a CPU, and by one thread of
// a CUDA kernel, where loops have fixed ends and nothing is found by a computed index, so that
// matrices stay in registers.
//
// Two roads to the same rotation. Where it is well determined, the closed form of Markley (FOAM,
// J. Astronaut. Sci. 41, 261, 1993): with s_1 >= s_2 >= |s_3| the singular values of B, s_3 signed
// like det B, and lambda = s_1 + s_2 + s_3,
//   R = ((kappa + |B|^2) B + lambda cof(B) - B B^T B) / zeta,
//   kappa = (lambda^2 - |B|^2) / 2,  zeta = kappa lambda - det B
//         = (s_1 + s_2)(s_1 + s_3)(s_2 + s_3).
// Its rounding error grows like 1 / zeta, so below kMinZeta a one-sided Jacobi decomposition, which
// is accurate for every matrix, takes over.
#pragma once

#include <cmath>
#include <limits>

#include "common/host_device.h"

namespace tito_fast {

// Row-major 3 x 3.
struct Matrix3 {
  double at[3][3];
};

namespace kabsch {

constexpr double kMinZeta = 1e-3;        // of a matrix of Frobenius norm 1
constexpr double kRankOneRatio = 1e-12;  // s_2 / s_1 below which an axis is all that is known
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Vector3 {
  double at[3];
};

TITO_HOST_DEVICE Vector3 cross(const Vector3& a, const Vector3& b) {
  return {{a.at[1] * b.at[2] - a.at[2] * b.at[1], a.at[2] * b.at[0] - a.at[0] * b.at[2],
           a.at[0] * b.at[1] - a.at[1] * b.at[0]}};
}

TITO_HOST_DEVICE double dot(const Vector3& a, const Vector3& b) {
  return a.at[0] * b.at[0] + a.at[1] * b.at[1] + a.at[2] * b.at[2];
}

TITO_HOST_DEVICE Vector3 scaled(const Vector3& a, double factor) {
  return {{a.at[0] * factor, a.at[1] * factor, a.at[2] * factor}};
}

TITO_HOST_DEVICE Vector3 normalized(const Vector3& a) {
  return scaled(a, 1.0 / std::sqrt(dot(a, a)));
}

// a - factor b
TITO_HOST_DEVICE Vector3 reduced(const Vector3& a, double factor, const Vector3& b) {
  return {{a.at[0] - factor * b.at[0], a.at[1] - factor * b.at[1], a.at[2] - factor * b.at[2]}};
}

TITO_HOST_DEVICE Vector3 any_perpendicular(const Vector3& unit) {
  const double x = std::fabs(unit.at[0]);
  const double y = std::fabs(unit.at[1]);
  const double z = std::fabs(unit.at[2]);
  const bool is_z = z < (y < x ? y : x);
  const bool is_y = !is_z && y < x;
  const Vector3 axis{{is_z || is_y ? 0.0 : 1.0, is_y ? 1.0 : 0.0, is_z ? 1.0 : 0.0}};
  return normalized(cross(unit, axis));
}

TITO_HOST_DEVICE Matrix3 cofactors(const Matrix3& b) {
  Matrix3 result;
  for (int r = 0; r < 3; ++r) {
    const int r1 = (r + 1) % 3;
    const int r2 = (r + 2) % 3;
    for (int c = 0; c < 3; ++c) {
      const int c1 = (c + 1) % 3;
      const int c2 = (c + 2) % 3;
      result.at[r][c] = b.at[r1][c1] * b.at[r2][c2] - b.at[r1][c2] * b.at[r2][c1];
    }
  }
  return result;
}

TITO_HOST_DEVICE double squared_norm(const Matrix3& b) {
  double sum = 0.0;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) sum += b.at[r][c] * b.at[r][c];
  }
  return sum;
}

// lambda = s_1 + s_2 + s_3 of a matrix of norm 1: the largest root of
//   lambda^4 - 2 lambda^2 - 8 det lambda + 1 - 4 |cof|^2.
// Newton from sqrt(3), an upper bound by Cauchy-Schwarz, falls monotonically onto it.
TITO_HOST_DEVICE double largest_root(double det, double cof_squared_norm) {
  const double c0 = 1.0 - 4.0 * cof_squared_norm;
  double root = 1.7320508075688774;
  for (int iteration = 0; iteration < 50; ++iteration) {
    const double square = root * root;
    const double value = (square - 2.0) * square - 8.0 * det * root + c0;
    const double slope = 4.0 * (square - 1.0) * root - 8.0 * det;
    if (!(slope > 0.0)) break;
    const double change = value / slope;
    root -= change;
    if (!(change > 1e-15 * root)) break;
  }
  return root;
}

TITO_HOST_DEVICE Matrix3 product(const Matrix3& a, const Matrix3& b) {
  Matrix3 result;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      result.at[r][c] = a.at[r][0] * b.at[0][c] + a.at[r][1] * b.at[1][c] + a.at[r][2] * b.at[2][c];
    }
  }
  return result;
}

// I + K + K K / (1 + cosine), K the cross product matrix of from x to; for angles up to 90 degrees.
TITO_HOST_DEVICE Matrix3 acute_rotation(const Vector3& from, const Vector3& to) {
  const Vector3 axis = cross(from, to);
  const double cosine = dot(from, to);
  const double x = axis.at[0];
  const double y = axis.at[1];
  const double z = axis.at[2];
  const Matrix3 skew{{{0.0, -z, y}, {z, 0.0, -x}, {-y, x, 0.0}}};
  Matrix3 result = product(skew, skew);
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      result.at[r][c] = (r == c ? 1.0 : 0.0) + skew.at[r][c] + result.at[r][c] / (1.0 + cosine);
    }
  }
  return result;
}

TITO_HOST_DEVICE Matrix3 smallest_rotation(const Vector3& from, const Vector3& to) {
  const bool is_acute = dot(from, to) >= 0.0;
  // Else a half turn about the same axis first, then the small rest: stable up to opposite
  // directions, where the axis is lost and any perpendicular one serves.
  const Matrix3 rest = acute_rotation(is_acute ? from : scaled(from, -1.0), to);
  if (is_acute) return rest;
  Vector3 axis = cross(from, to);
  if (dot(axis, axis) < kRankOneRatio * kRankOneRatio) axis = any_perpendicular(from);
  axis = normalized(reduced(axis, dot(axis, from), from));
  Matrix3 half_turn;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      half_turn.at[r][c] = 2.0 * axis.at[r] * axis.at[c] - (r == c ? 1.0 : 0.0);
    }
  }
  return product(rest, half_turn);
}

// Column i of B Z, which becomes s_i v_i, and of Z, which becomes u_i.
struct ColumnPair {
  Vector3 column;
  Vector3 basis;
};

TITO_HOST_DEVICE void rotate_pair(Vector3& p, Vector3& q, double cosine, double sine) {
  for (int r = 0; r < 3; ++r) {
    const double before = p.at[r];
    p.at[r] = cosine * before - sine * q.at[r];
    q.at[r] = sine * before + cosine * q.at[r];
  }
}

// Makes two columns orthogonal; true if they were not.
TITO_HOST_DEVICE bool orthogonalize(ColumnPair& p, ColumnPair& q) {
  const double alpha = dot(p.column, p.column);
  const double beta = dot(q.column, q.column);
  const double gamma = dot(p.column, q.column);
  if (!(std::fabs(gamma) > 1e-16 * std::sqrt(alpha * beta))) return false;
  const double zeta = (beta - alpha) / (2.0 * gamma);
  const double tangent =
      (zeta >= 0.0 ? 1.0 : -1.0) / (std::fabs(zeta) + std::sqrt(1.0 + zeta * zeta));
  const double cosine = 1.0 / std::sqrt(1.0 + tangent * tangent);
  const double sine = cosine * tangent;
  rotate_pair(p.column, q.column, cosine, sine);
  rotate_pair(p.basis, q.basis, cosine, sine);
  return true;
}

// Puts the longer column first.
TITO_HOST_DEVICE void order_pair(ColumnPair& p, double& p_size, ColumnPair& q, double& q_size) {
  if (!(p_size < q_size)) return;
  const ColumnPair pair = p;
  const double size = p_size;
  p = q;
  p_size = q_size;
  q = pair;
  q_size = size;
}

// One-sided Jacobi: rotations of column pairs make the columns of B Z orthogonal, so that column
// i is s_i v_i and column i of Z is u_i. The third pair is the cross product of the first two,
// which makes the rotation proper and gives s_3 its sign.
TITO_HOST_DEVICE Matrix3 rotation_by_jacobi(const Matrix3& b) {
  ColumnPair first{{{b.at[0][0], b.at[1][0], b.at[2][0]}}, {{1.0, 0.0, 0.0}}};
  ColumnPair second{{{b.at[0][1], b.at[1][1], b.at[2][1]}}, {{0.0, 1.0, 0.0}}};
  ColumnPair third{{{b.at[0][2], b.at[1][2], b.at[2][2]}}, {{0.0, 0.0, 1.0}}};
  for (int sweep = 0; sweep < 30; ++sweep) {
    bool is_changed = orthogonalize(first, second);
    is_changed = orthogonalize(first, third) || is_changed;
    is_changed = orthogonalize(second, third) || is_changed;
    if (!is_changed) break;
  }
  double first_size = std::sqrt(dot(first.column, first.column));
  double second_size = std::sqrt(dot(second.column, second.column));
  double third_size = std::sqrt(dot(third.column, third.column));
  order_pair(first, first_size, second, second_size);
  order_pair(first, first_size, third, third_size);
  order_pair(second, second_size, third, third_size);

  const Vector3 v1 = scaled(first.column, 1.0 / first_size);
  const Vector3& u1 = first.basis;
  if (second_size <= kRankOneRatio * first_size) return smallest_rotation(u1, v1);
  // Orthogonalized once more: the relative error of a small column against v_1 is not small.
  Vector3 v2 = scaled(second.column, 1.0 / second_size);
  v2 = normalized(reduced(v2, dot(v1, v2), v1));
  const Vector3& u2 = second.basis;
  const Vector3 v3 = cross(v1, v2);
  const Vector3 u3 = cross(u1, u2);
  Matrix3 result;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      result.at[r][c] = v1.at[r] * u1.at[c] + v2.at[r] * u2.at[c] + v3.at[r] * u3.at[c];
    }
  }
  return result;
}

TITO_HOST_DEVICE Matrix3 identity_times(double factor) {
  return {{{factor, 0.0, 0.0}, {0.0, factor, 0.0}, {0.0, 0.0, factor}}};
}

}  // namespace kabsch

// The rotation R (det R = +1) that maximises trace(R^T covariance), where
// covariance[a][b] = sum_i x_1[i][a] x_0[i][b]; R x_0 is then as close to x_1 as rotations allow.
// Rank one: the smallest rotation of the one axis onto the other. Rank zero: the identity.
TITO_HOST_DEVICE Matrix3 kabsch_rotation(const Matrix3& covariance) {
  double largest = 0.0;
  double sum = 0.0;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      largest = std::fmax(largest, std::fabs(covariance.at[r][c]));
      sum += covariance.at[r][c];
    }
  }
  if (!std::isfinite(sum)) return kabsch::identity_times(kabsch::kNan);
  if (largest == 0.0) return kabsch::identity_times(1.0);
  // Scaled by the largest element first: the squares of tiny or huge elements are then safe.
  Matrix3 b;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) b.at[r][c] = covariance.at[r][c] / largest;
  }
  const double inverse_norm = 1.0 / std::sqrt(kabsch::squared_norm(b));
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) b.at[r][c] *= inverse_norm;
  }
  const Matrix3 cof = kabsch::cofactors(b);
  const double det =
      b.at[0][0] * cof.at[0][0] + b.at[0][1] * cof.at[0][1] + b.at[0][2] * cof.at[0][2];
  const double lambda = kabsch::largest_root(det, kabsch::squared_norm(cof));
  const double kappa = 0.5 * (lambda * lambda - 1.0);
  const double zeta = kappa * lambda - det;
  if (!(zeta > kabsch::kMinZeta)) return kabsch::rotation_by_jacobi(b);

  Matrix3 gram;  // B^T B
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      gram.at[r][c] = b.at[0][r] * b.at[0][c] + b.at[1][r] * b.at[1][c] + b.at[2][r] * b.at[2][c];
    }
  }
  const double inverse_zeta = 1.0 / zeta;
  Matrix3 result;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      const double cubed =
          b.at[r][0] * gram.at[0][c] + b.at[r][1] * gram.at[1][c] + b.at[r][2] * gram.at[2][c];
      result.at[r][c] = ((kappa + 1.0) * b.at[r][c] + lambda * cof.at[r][c] - cubed) * inverse_zeta;
    }
  }
  return result;
}

}  // namespace tito_fast
