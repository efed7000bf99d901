// Vectors of W numbers S, as wide as the processor's, but not much wider than C numbers.

#define INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int64_t register_bytes = 64;
#elif defined(__AVX__)
constexpr int64_t register_bytes = 32;
#else
constexpr int64_t register_bytes = 16;
#endif

constexpr int64_t narrowest(int64_t lanes) { return lanes / 2 >= C && lanes > 2 ? narrowest(lanes / 2) : lanes; }

/// Lanes of a vector.
constexpr int64_t W = narrowest(register_bytes / sizeof(S));

typedef S V __attribute__((vector_size(W * sizeof(S))));
typedef S Unaligned __attribute__((vector_size(W * sizeof(S)), aligned(sizeof(S)), may_alias));

/// The first N lanes in memory; the others are zero.
template <int N> static INLINE V load(const S* p) {
  if constexpr (N == W) return *reinterpret_cast<const Unaligned*>(p);
  V v{};
  for (int i = 0; i < N; ++i) v[i] = p[i];
  return v;
}

template <int N> static INLINE void store(S* p, V v) {
  if constexpr (N == W) *reinterpret_cast<Unaligned*>(p) = v;
  else for (int i = 0; i < N; ++i) p[i] = v[i];
}
