// Runs a list of operators: compiled plans, matrix products and sums, on one table of addresses.
// The type S and the constants that prelude.h needs are defined before.

typedef int64_t (*Function)(const int64_t* arguments, Team team);

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

template <int N = 1> static void tail(const S* x, int64_t n_in, const S* w, int64_t n_out, S* y, int64_t lanes) {
  if constexpr (N < W) {
    if (lanes == N) tile<1, 1, N>(x, n_in, w, n_out, y);
    else tail<N + 1>(x, n_in, w, n_out, y, lanes);
  }
}

template <int R> static void rows(const S* x, int64_t n_in, const S* w, int64_t n_out, S* y) {
  int64_t c = 0;
  for (; c + 4 * W <= n_out; c += 4 * W) tile<R, 4, W>(x, n_in, w + c, n_out, y + c);
  for (; c + W <= n_out; c += W) tile<R, 1, W>(x, n_in, w + c, n_out, y + c);
  if (c < n_out)
    for (int r = 0; r < R; ++r) tail(x + r * n_in, n_in, w + c, n_out, y + c + r * n_out, n_out - c);
}

/// y = x w for `n` rows; a row's sums don't depend on the rows beside it.
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

/// Shares of consecutive rows for the threads, if there is work for them.
template <class Work> static void share(Team team, int64_t threads, int64_t n, double work, const Work& job) {
  const int64_t useful = 1 + static_cast<int64_t>(static_cast<double>(n) * work / 2e5);
  int64_t parts = threads < useful ? threads : useful;
  if (parts > n) parts = n;
  if (parts <= 1 || !team) return job(0, n);
  run_parts(team, parts, [&](int64_t part) { job(n * part / parts, n * (part + 1) / parts); });
}

enum { PLAN, PRODUCT, BY_KIND, SUM };

/// Arguments: address and length of the code, the table, the number of threads. In the code, every operator is its
/// kind, the number of its words, and these: numbers, or -1 - n for entry n of the table. Returns 1 if an index points
/// outside its array, else 0.
extern "C" int64_t run(const int64_t* a, Team team) {
  const int64_t* code = reinterpret_cast<const int64_t*>(a[0]);
  const int64_t* const end = code + a[1];
  const int64_t* const table = reinterpret_cast<const int64_t*>(a[2]);
  const int64_t threads = a[3];
  int64_t v[256];
  const auto in = [&](int n) { return reinterpret_cast<const S*>(v[n]); };
  const auto out = [&](int n) { return reinterpret_cast<S*>(v[n]); };
  while (code < end) {
    const int64_t kind = code[0], words = code[1];
    for (int64_t n = 0; n < words; ++n) v[n] = code[n + 2] < 0 ? table[-1 - code[n + 2]] : code[n + 2];
    code += words + 2;
    if (kind == PLAN) {  // the function, then its arguments
      if (reinterpret_cast<Function>(v[0])(v + 1, team)) return 1;
    } else if (kind == PRODUCT) {  // x, weight, y, rows, components of a row, n_in, n_out
      const int64_t n_in = v[5], n_out = v[6];
      share(team, threads, v[3] * v[4], static_cast<double>(n_in * n_out), [&](int64_t from, int64_t to) {
        product(in(0) + from * n_in, to - from, n_in, in(1), n_out, out(2) + from * n_out);
      });
    } else if (kind == BY_KIND) {  // the same, then the kinds and their number
      const int64_t size = v[4], n_in = v[5], n_out = v[6];
      const int64_t* kinds = reinterpret_cast<const int64_t*>(v[7]);
      for (int64_t n = 0; n < v[3]; ++n)
        if (!within(kinds[n], v[8])) return 1;
      share(team, threads, v[3], static_cast<double>(size * n_in * n_out), [&](int64_t from, int64_t to) {
        for (int64_t n = from; n < to; ++n)
          product(in(0) + n * size * n_in, size, n_in, in(1) + kinds[n] * n_in * n_out, n_out, out(2) + n * size * n_out);
      });
    } else {  // x, y, x + y, rows, numbers in a row
      share(team, threads, v[3], static_cast<double>(v[4]), [&](int64_t from, int64_t to) {
        for (int64_t n = from * v[4]; n < to * v[4]; ++n) out(2)[n] = in(0)[n] + in(1)[n];
      });
    }
  }
  return 0;
}
