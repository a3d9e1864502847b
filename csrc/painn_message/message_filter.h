// The filter w(enc(d)) of pairs of atoms.
#pragma once

#include <cmath>

#include "painn_message/message_packed.h"

namespace tito_fast {
namespace TITO_ISA {

// row[2 k - 2] = cos(k angle), row[2 k - 1] = sin(k angle), k = 1 .. n / 2: four interleaved
// recurrences in double from one sine and cosine.
template <typename T>
void encode_angle(double angle, int n, T* row) {
  double cosine[4];
  double sine[4];
  cosine[0] = ::cos(angle);
  sine[0] = ::sin(angle);
  for (int k = 1; k < 4; ++k) {
    cosine[k] = cosine[k - 1] * cosine[0] - sine[k - 1] * sine[0];
    sine[k] = sine[k - 1] * cosine[0] + cosine[k - 1] * sine[0];
  }
  const double step_cosine = cosine[3];
  const double step_sine = sine[3];
  for (int first = 0; first < n / 2; first += 4) {
    const int n_here = n / 2 - first < 4 ? n / 2 - first : 4;
    for (int k = 0; k < n_here; ++k) {
      row[2 * (first + k)] = static_cast<T>(cosine[k]);
      row[2 * (first + k) + 1] = static_cast<T>(sine[k]);
    }
    for (int k = 0; k < 4; ++k) {
      const double real = cosine[k] * step_cosine - sine[k] * step_sine;
      sine[k] = sine[k] * step_cosine + cosine[k] * step_sine;
      cosine[k] = real;
    }
  }
}

constexpr double kPi = 3.14159265358979323846;

// Encodes kMlpRows distances or fewer.
template <typename T>
void encode_distances(int n_rows, const T* dist, double length, int width, T* rows) {
  for (int r = 0; r < n_rows; ++r) {
    encode_angle(kPi / length * static_cast<double>(dist[r]), width,
                 rows + r * row_stride<T>(width));
  }
}

// Hidden features of the filter of one tile of pairs: tile.h2. encoding is (kMlpRows, padded W).
template <typename T>
void filter_hidden(const PackedMessage<T>& message, int n_rows, const T* dist, T* encoding,
                   const MlpTile<T>& tile) {
  const std::int64_t stride = row_stride<T>(message.width);
  encode_distances(n_rows, dist, message.distance_length, message.width, encoding);
  gemm<Start::kBias>(n_rows, message.width, message.width, encoding, stride, 1,
                     message.filter.first.forward, message.filter.first.bias, tile.a1, stride);
  mlp_hidden(message.filter, n_rows, tile);
}

// rows (n_rows, n_blocks, padded W) for a tile of pairs.
template <typename T>
void filter_rows(const PackedMessage<T>& message, int n_rows, const T* dist, T* encoding,
                 const MlpTile<T>& tile, T* rows) {
  const std::int64_t stride = row_stride<T>(message.width);
  filter_hidden(message, n_rows, dist, encoding, tile);
  for (int slot = 0; slot < message.n_blocks; ++slot) {
    gemm<Start::kBias>(n_rows, message.width, message.width, tile.h2, stride, 1,
                       message.filter_last[slot].forward, message.filter_last[slot].bias,
                       rows + slot * stride, message.n_blocks * stride);
  }
}

// Adds the filter's gradients for a tile of pairs whose rows have the gradient d_rows (n_rows,
// n_blocks, padded W). Writes the gradient of the distances unless d_dist is null; d_encoding is
// (kMlpRows, padded W).
template <typename T>
void filter_rows_backward(const PackedMessage<T>& message, int n_rows, const T* dist,
                          const T* d_rows, T* encoding, T* d_encoding, const MlpTile<T>& tile,
                          const MessageSums<T>& sums, T* d_dist) {
  const int width = message.width;
  const std::int64_t stride = row_stride<T>(width);
  const std::int64_t d_stride = message.n_blocks * stride;
  filter_hidden(message, n_rows, dist, encoding, tile);
  for (int slot = 0; slot < message.n_blocks; ++slot) {
    const T* const d = d_rows + slot * stride;
    add_rows(n_rows, padded<T>(width), d, d_stride, sums.filter_last[slot].bias);
    gemm_tn(n_rows, width, width, tile.h2, stride, d, d_stride, sums.filter_last[slot].weight,
            stride);
    const T* const weight = message.filter_last[slot].backward;
    if (slot == 0) {
      gemm<Start::kZero>(n_rows, width, width, d, d_stride, 1, weight,
                         static_cast<const T*>(nullptr), tile.d, stride);
    } else {
      gemm<Start::kSum>(n_rows, width, width, d, d_stride, 1, weight,
                        static_cast<const T*>(nullptr), tile.d, stride);
    }
  }
  mlp_hidden_backward(message.filter, n_rows, tile, sums.filter);
  gemm_tn(n_rows, width, width, encoding, stride, tile.d, stride, sums.filter.first.weight, stride);
  if (d_dist == nullptr) return;
  gemm<Start::kZero>(n_rows, width, width, tile.d, stride, 1, message.filter.first.backward,
                     static_cast<const T*>(nullptr), d_encoding, stride);
  for (int r = 0; r < n_rows; ++r) {
    const T* const row = encoding + r * stride;
    const T* const d_row = d_encoding + r * stride;
    double total = 0.0;
    for (int k = 0; k < width / 2; ++k) {
      // d cos(k a) / da = -k sin(k a), d sin(k a) / da = k cos(k a)
      total += (k + 1) * (static_cast<double>(d_row[2 * k + 1]) * row[2 * k] -
                          static_cast<double>(d_row[2 * k]) * row[2 * k + 1]);
    }
    d_dist[r] = static_cast<T>(total * kPi / message.distance_length);
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
