// Two roads to the same rotation. Where it is well determined, the closed form of Markley (FOAM,
// J. Astronaut. Sci. 41, 261, 1993): with s_1 >= s_2 >= |s_3| the singular values of B, s_3 signed
// like det B, and lambda = s_1 + s_2 + s_3,
//   R = ((kappa + |B|^2) B + lambda cof(B) - B B^T B) / zeta,
//   kappa = (lambda^2 - |B|^2) / 2,  zeta = kappa lambda - det B
//         = (s_1 + s_2)(s_1 + s_3)(s_2 + s_3).
// Its rounding error grows like 1 / zeta, so below kMinZeta a one-sided Jacobi decomposition, which
// is accurate for every matrix, takes over.
#include "ot_couple/kabsch.h"

#include <cmath>
#include <limits>
#include <utility>

namespace tito_fast {
namespace {

constexpr double kMinZeta = 1e-3;        // of a matrix of Frobenius norm 1
constexpr double kRankOneRatio = 1e-12;  // s_2 / s_1 below which an axis is all that is known

struct Vector3 {
  double at[3];
};

Vector3 cross(const Vector3& a, const Vector3& b) {
  return {{a.at[1] * b.at[2] - a.at[2] * b.at[1], a.at[2] * b.at[0] - a.at[0] * b.at[2],
           a.at[0] * b.at[1] - a.at[1] * b.at[0]}};
}

double dot(const Vector3& a, const Vector3& b) {
  return a.at[0] * b.at[0] + a.at[1] * b.at[1] + a.at[2] * b.at[2];
}

Vector3 scaled(const Vector3& a, double factor) {
  return {{a.at[0] * factor, a.at[1] * factor, a.at[2] * factor}};
}

Vector3 normalized(const Vector3& a) { return scaled(a, 1.0 / std::sqrt(dot(a, a))); }

Vector3 any_perpendicular(const Vector3& unit) {
  int smallest = 0;
  for (int c = 1; c < 3; ++c) {
    if (std::fabs(unit.at[c]) < std::fabs(unit.at[smallest])) smallest = c;
  }
  Vector3 axis{{0.0, 0.0, 0.0}};
  axis.at[smallest] = 1.0;
  return normalized(cross(unit, axis));
}

Matrix3 cofactors(const Matrix3& b) {
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

double squared_norm(const Matrix3& b) {
  double sum = 0.0;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) sum += b.at[r][c] * b.at[r][c];
  }
  return sum;
}

// lambda = s_1 + s_2 + s_3 of a matrix of norm 1: the largest root of
//   lambda^4 - 2 lambda^2 - 8 det lambda + 1 - 4 |cof|^2.
// Newton from sqrt(3), an upper bound by Cauchy-Schwarz, falls monotonically onto it.
double largest_root(double det, double cof_squared_norm) {
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

Matrix3 product(const Matrix3& a, const Matrix3& b) {
  Matrix3 result;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      result.at[r][c] = a.at[r][0] * b.at[0][c] + a.at[r][1] * b.at[1][c] + a.at[r][2] * b.at[2][c];
    }
  }
  return result;
}

// I + K + K K / (1 + cosine), K the cross product matrix of from x to; for angles up to 90 degrees.
Matrix3 acute_rotation(const Vector3& from, const Vector3& to) {
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

Matrix3 smallest_rotation(const Vector3& from, const Vector3& to) {
  if (dot(from, to) >= 0.0) return acute_rotation(from, to);
  // A half turn about the same axis first, then the small rest: stable up to opposite directions,
  // where the axis is lost and any perpendicular one serves.
  Vector3 axis = cross(from, to);
  if (dot(axis, axis) < kRankOneRatio * kRankOneRatio) axis = any_perpendicular(from);
  const double overlap = dot(axis, from);
  for (int r = 0; r < 3; ++r) axis.at[r] -= overlap * from.at[r];
  axis = normalized(axis);
  Matrix3 half_turn;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      half_turn.at[r][c] = 2.0 * axis.at[r] * axis.at[c] - (r == c ? 1.0 : 0.0);
    }
  }
  return product(acute_rotation(scaled(from, -1.0), to), half_turn);
}

// One-sided Jacobi: rotations of column pairs make the columns of B Z orthogonal, so that column
// i is s_i v_i and column i of Z is u_i. The third pair is the cross product of the first two,
// which makes the rotation proper and gives s_3 its sign.
Matrix3 rotation_by_jacobi(const Matrix3& b) {
  Vector3 columns[3];
  Vector3 basis[3];
  for (int c = 0; c < 3; ++c) {
    for (int r = 0; r < 3; ++r) {
      columns[c].at[r] = b.at[r][c];
      basis[c].at[r] = r == c ? 1.0 : 0.0;
    }
  }
  for (int sweep = 0; sweep < 30; ++sweep) {
    bool is_orthogonal = true;
    for (int p = 0; p < 2; ++p) {
      for (int q = p + 1; q < 3; ++q) {
        const double alpha = dot(columns[p], columns[p]);
        const double beta = dot(columns[q], columns[q]);
        const double gamma = dot(columns[p], columns[q]);
        if (!(std::fabs(gamma) > 1e-16 * std::sqrt(alpha * beta))) continue;
        is_orthogonal = false;
        const double zeta = (beta - alpha) / (2.0 * gamma);
        const double tangent =
            (zeta >= 0.0 ? 1.0 : -1.0) / (std::fabs(zeta) + std::sqrt(1.0 + zeta * zeta));
        const double cosine = 1.0 / std::sqrt(1.0 + tangent * tangent);
        const double sine = cosine * tangent;
        for (int r = 0; r < 3; ++r) {
          const double column_p = columns[p].at[r];
          columns[p].at[r] = cosine * column_p - sine * columns[q].at[r];
          columns[q].at[r] = sine * column_p + cosine * columns[q].at[r];
          const double basis_p = basis[p].at[r];
          basis[p].at[r] = cosine * basis_p - sine * basis[q].at[r];
          basis[q].at[r] = sine * basis_p + cosine * basis[q].at[r];
        }
      }
    }
    if (is_orthogonal) break;
  }
  int order[3] = {0, 1, 2};
  double size[3];
  for (int c = 0; c < 3; ++c) size[c] = std::sqrt(dot(columns[c], columns[c]));
  if (size[order[0]] < size[order[1]]) std::swap(order[0], order[1]);
  if (size[order[0]] < size[order[2]]) std::swap(order[0], order[2]);
  if (size[order[1]] < size[order[2]]) std::swap(order[1], order[2]);

  const Vector3 v1 = scaled(columns[order[0]], 1.0 / size[order[0]]);
  const Vector3& u1 = basis[order[0]];
  if (size[order[1]] <= kRankOneRatio * size[order[0]]) return smallest_rotation(u1, v1);
  // Orthogonalised once more: the relative error of a small column against v_1 is not small.
  Vector3 v2 = scaled(columns[order[1]], 1.0 / size[order[1]]);
  const double overlap = dot(v1, v2);
  for (int r = 0; r < 3; ++r) v2.at[r] -= overlap * v1.at[r];
  v2 = normalized(v2);
  const Vector3& u2 = basis[order[1]];
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

Matrix3 identity_times(double factor) {
  return {{{factor, 0.0, 0.0}, {0.0, factor, 0.0}, {0.0, 0.0, factor}}};
}

}  // namespace

Matrix3 kabsch_rotation(const Matrix3& covariance) {
  double largest = 0.0;
  double sum = 0.0;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) {
      largest = std::fmax(largest, std::fabs(covariance.at[r][c]));
      sum += covariance.at[r][c];
    }
  }
  if (!std::isfinite(sum)) return identity_times(std::numeric_limits<double>::quiet_NaN());
  if (largest == 0.0) return identity_times(1.0);
  // Scaled by the largest element first: the squares of tiny or huge elements are then safe.
  Matrix3 b;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) b.at[r][c] = covariance.at[r][c] / largest;
  }
  const double inverse_norm = 1.0 / std::sqrt(squared_norm(b));
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) b.at[r][c] *= inverse_norm;
  }
  const Matrix3 cof = cofactors(b);
  const double det =
      b.at[0][0] * cof.at[0][0] + b.at[0][1] * cof.at[0][1] + b.at[0][2] * cof.at[0][2];
  const double lambda = largest_root(det, squared_norm(cof));
  const double kappa = 0.5 * (lambda * lambda - 1.0);
  const double zeta = kappa * lambda - det;
  if (!(zeta > kMinZeta)) return rotation_by_jacobi(b);

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
