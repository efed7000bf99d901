// Linear maps, sums and pointwise functions of rows of numbers S.

#include <cmath>
#include <cstdint>
#include <cstring>

/// R rows times a matrix, for K vectors (the last one of N lanes) of its columns.
template <int R, int K, int N> static INLINE void tile(const S* x, int64_t n_in, const S* w, int64_t n_out, S* y) {
  V sums[R][K] = {};
  for (int64_t k = 0; k < n_in; ++k) {
    V row[K];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) row[j] = j == K - 1 ? load<N>(w + k * n_out + j * W) : load<W>(w + k * n_out + j * W);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V factor = x[r * n_in + k] - V{};
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) sums[r][j] += factor * row[j];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) {
      if (j == K - 1) store<N>(y + r * n_out + j * W, sums[r][j]);
      else store<W>(y + r * n_out + j * W, sums[r][j]);
    }
}

template <int R, int N = 1>
static void tail(const S* x, int64_t n_in, const S* w, int64_t n_out, S* y, int64_t lanes) {
  if constexpr (N < W) {
    if (lanes == N) tile<R, 1, N>(x, n_in, w, n_out, y);
    else tail<R, N + 1>(x, n_in, w, n_out, y, lanes);
  }
}

template <int R> static void rows(const S* x, int64_t n_in, const S* w, int64_t n_out, S* y) {
  int64_t c = 0;
  for (; c + 4 * W <= n_out; c += 4 * W) tile<R, 4, W>(x, n_in, w + c, n_out, y + c);
  for (; c + W <= n_out; c += W) tile<R, 1, W>(x, n_in, w + c, n_out, y + c);
  if (c < n_out)
    for (int r = 0; r < R; ++r) tail<1>(x + r * n_in, n_in, w + c, n_out, y + c + r * n_out, n_out - c);
}

/// y = x w for n rows; a row's sums don't depend on the rows beside it.
static void product(const S* x, int64_t n, int64_t n_in, const S* w, int64_t n_out, S* y) {
  for (; n >= 6; n -= 6, x += 6 * n_in, y += 6 * n_out) rows<6>(x, n_in, w, n_out, y);
  switch (n) {
    case 5: return rows<5>(x, n_in, w, n_out, y);
    case 4: return rows<4>(x, n_in, w, n_out, y);
    case 3: return rows<3>(x, n_in, w, n_out, y);
    case 2: return rows<2>(x, n_in, w, n_out, y);
    case 1: return rows<1>(x, n_in, w, n_out, y);
  }
}

/// y = x w with the matrix of each row's kind; a row is `size` inputs of the matrix.
static void product_by_kind(const S* x, int64_t n, int64_t size, int64_t n_in, const S* w, const int64_t* kind,
                            int64_t n_out, S* y) {
  for (int64_t r = 0; r < n;) {
    int64_t end = r + 1;
    while (end < n && kind[end] == kind[r]) ++end;
    product(x + r * size * n_in, (end - r) * size, n_in, w + kind[r] * n_in * n_out, n_out, y + r * size * n_out);
    r = end;
  }
}

/// y[r] = m x[r] for matrices x[r] (size_in, channels).
static void combine(const S* x, int64_t n, int64_t size_in, int64_t channels, const S* m, int64_t size_out, S* y) {
  for (int64_t r = 0; r < n; ++r)
    product(m, size_out, size_in, x + r * size_in * channels, channels, y + r * size_out * channels);
}

static void multiply(const S* x, const S* y, int64_t n, S* z) {
  for (int64_t i = 0; i < n; ++i) z[i] = x[i] * y[i];
}
static void copy(const S* x, int64_t n, S* z) { std::memcpy(z, x, static_cast<size_t>(n) * sizeof(S)); }
static void add(const S* x, const S* y, int64_t n, S* z) {
  for (int64_t i = 0; i < n; ++i) z[i] = x[i] + y[i];
}

static INLINE S sigmoid(S x) { return S(1) / (S(1) + std::exp(-x)); }

struct One {
  static S value(S) { return 1; }
  static S slope(S) { return 0; }
};
struct Silu {
  static S value(S x) { return x * sigmoid(x); }
  static S slope(S x) {
    const S s = sigmoid(x);
    return s + x * s * (1 - s);
  }
};
struct Sigmoid {
  static S value(S x) { return sigmoid(x); }
  static S slope(S x) {
    const S s = sigmoid(x);
    return s * (1 - s);
  }
};
struct Inverse {
  static S value(S x) { return 1 / x; }
  static S slope(S x) { return -1 / (x * x); }
};
struct Inverse_root {
  static S value(S x) { return 1 / std::sqrt(x); }
  static S slope(S x) { return S(-0.5) / (x * std::sqrt(x)); }
};

template <class Function> static void apply(const S* x, int64_t n, S* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = Function::value(x[i]);
}
template <class Function> static void slopes(const S* x, int64_t n, S* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = Function::slope(x[i]);
}
