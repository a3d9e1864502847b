// Periodic boxes in CUDA kernels: which images of a source may come within reach of a receiver.
// They only have to contain the edges: the exact test (radius_search_block.h) decides, so every
// reach is rounded up. Letters: i receiver, j source, k lattice vector, c component.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/host_device.h"
#include "radius_graph/radius_graph_cuda.h"

namespace tito_fast {

// Shifts stay integers that a float holds exactly.
constexpr double kMostWraps = 1 << 20;
// Below this share of the product of the rows' lengths a determinant counts as zero.
constexpr double kSmallestRelativeVolume = 1e-6;
constexpr double kMostImages = 2147483647.0;
// What fractions of a position may be off by, relative to 1 and the fractions.
constexpr double kFractionError = 1e-9;

// Of a source, in lattice vectors.
struct Shift {
  int x, y, z;
};

struct Vector3 {
  double x, y, z;
};

TITO_HOST_DEVICE double dot(const Vector3& a, const Vector3& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

TITO_HOST_DEVICE Vector3 cross(const Vector3& a, const Vector3& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <typename T>
TITO_HOST_DEVICE Vector3 vector3(const T* from) {
  return {static_cast<double>(from[0]), static_cast<double>(from[1]), static_cast<double>(from[2])};
}

TITO_HOST_DEVICE double sum_of_sizes(const Vector3& a) { return fabs(a.x) + fabs(a.y) + fabs(a.z); }

template <typename T>
TITO_HOST_DEVICE bool is_finite(T x) {
  return x - x == T(0);
}

TITO_HOST_DEVICE bool is_finite(const Vector3& a) {
  return is_finite(a.x) && is_finite(a.y) && is_finite(a.z);
}

// 0, kBadBox or kSingularBox; the determinant in `volume`.
template <typename T>
TITO_HOST_DEVICE int box_problem(const T* rows, double& volume) {
  const Vector3 a = vector3(rows), b = vector3(rows + 3), c = vector3(rows + 6);
  volume = dot(a, cross(b, c));
  if (!(is_finite(a) && is_finite(b) && is_finite(c))) return kBadBox;
  const double scale = sqrt(dot(a, a)) * sqrt(dot(b, b)) * sqrt(dot(c, c));
  return fabs(volume) > kSmallestRelativeVolume * scale ? 0 : kSingularBox;
}

// One ulp of T at 1 often enough for all that the exact test rounds.
template <typename T>
constexpr double kUlps = 32.0 * std::numeric_limits<T>::epsilon();

// A box in shared memory.
template <typename T>
struct Lattice {
  T rows[9];
  double reciprocal[9];      // rows: fraction k of p is dot(row k, p)
  double inverse_height[3];  // between opposite faces
  double size[3];            // sum of a row's |components|
  double reach;              // rounded up, but for what grows with the distance of two atoms
};

// Fills `lattice`, by all lanes of a warp; returns 0 or a bit of status.
template <typename T, typename Block>
TITO_HOST_DEVICE int load_lattice(const Block& block, const T* box, double cutoff,
                                  Lattice<T>& lattice) {
  const int lane = block.lane();
  block.sync_warp();  // nobody reads what was here before
  if (lane < 9) lattice.rows[lane] = box[lane];
  block.sync_warp();
  double volume;
  const int problem = box_problem(lattice.rows, volume);
  if (lane < 3) {
    const Vector3 normal = cross(vector3(lattice.rows + 3 * ((lane + 1) % 3)),
                                 vector3(lattice.rows + 3 * ((lane + 2) % 3)));
    lattice.reciprocal[3 * lane] = normal.x / volume;
    lattice.reciprocal[3 * lane + 1] = normal.y / volume;
    lattice.reciprocal[3 * lane + 2] = normal.z / volume;
    lattice.inverse_height[lane] = sqrt(dot(normal, normal)) / fabs(volume);
    lattice.size[lane] = sum_of_sizes(vector3(lattice.rows + 3 * lane));
  }
  block.sync_warp();
  if (lane == 0) {
    double extent = 0.0;
    for (int k = 0; k < 3; ++k) {
      extent += (cutoff * lattice.inverse_height[k] + 3.0) * lattice.size[k];
    }
    lattice.reach = cutoff * (1.0 + kUlps<T>)+kUlps<T> * extent;
  }
  block.sync_warp();
  return problem;
}

template <typename T>
TITO_HOST_DEVICE Vector3 fractions(const Lattice<T>& lattice, const Vector3& p) {
  return {dot(vector3(lattice.reciprocal), p), dot(vector3(lattice.reciprocal + 3), p),
          dot(vector3(lattice.reciprocal + 6), p)};
}

TITO_HOST_DEVICE bool is_distant(const Vector3& fraction) {
  return !(fabs(floor(fraction.x)) <= kMostWraps && fabs(floor(fraction.y)) <= kMostWraps &&
           fabs(floor(fraction.z)) <= kMostWraps);
}

// Shifts low ... end - 1 of each lattice vector; none where an end is not above its low.
struct ImageRange {
  Shift low, end;

  TITO_HOST_DEVICE bool is_empty() const {
    return end.x <= low.x || end.y <= low.y || end.z <= low.z;
  }
  TITO_HOST_DEVICE double n_images() const {
    return static_cast<double>(end.x - low.x) * (end.y - low.y) * (end.z - low.z);
  }
};

// Sets the shifts that bring a fraction to at most `margin` from 0. A margin may be infinite; then
// they are too many.
TITO_HOST_DEVICE void find_shifts(double fraction, double margin, int& low, int& end) {
  const double finite = fmin(margin, 1e9);
  low = static_cast<int>(ceil(-fraction - finite));
  end = static_cast<int>(floor(finite - fraction)) + 1;
}

// The images of the second atom that may be within reach of the first, with p the vector between
// them.
template <typename T>
TITO_HOST_DEVICE ImageRange find_images(const Lattice<T>& lattice, const Vector3& p) {
  ImageRange images = {{0, 0, 0}, {0, 0, 0}};
  const Vector3 f = fractions(lattice, p);
  const double sizes = sum_of_sizes(f);
  // Of atoms that are reported to be too far away, or not finite.
  if (!(sizes <= 16.0 * kMostWraps)) return images;
  const double extent = sum_of_sizes(p) + fabs(f.x) * lattice.size[0] +
                        fabs(f.y) * lattice.size[1] + fabs(f.z) * lattice.size[2];
  const double reach = lattice.reach + kUlps<T> * extent;
  const double error = kFractionError * (1.0 + sizes);
  find_shifts(f.x, reach * lattice.inverse_height[0] + error, images.low.x, images.end.x);
  find_shifts(f.y, reach * lattice.inverse_height[1] + error, images.low.y, images.end.y);
  find_shifts(f.z, reach * lattice.inverse_height[2] + error, images.low.z, images.end.z);
  return images;
}

}  // namespace tito_fast
