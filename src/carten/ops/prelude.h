#if defined(__SSE2__)
#include <immintrin.h>
#endif
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define NOINLINE __attribute__((noinline))

/// Tells the compiler that scalars in memory may have changed: reading one again, in the instruction that uses it, is
/// cheaper than keeping it in a vector register, which spills others.
#define FORGET(p, size) __asm__("" : "+m"(*(S(*)[size])(p)));

/// Channels padded to whole vectors.
constexpr int64_t P = (C + W - 1) / W * W;

static inline V ones() { return V{} + S(1); }

/// Stores past the caches, which what a whole pass writes would only flush: for outputs nobody reads soon.
template <class T> static inline void store_past(S* p, T v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#endif
#if defined(__AVX__)
  if constexpr (sizeof(T) == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(T) == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#endif
  *reinterpret_cast<Unaligned*>(p) = v;
}

/// Makes what was stored past the caches visible to other threads.
static inline void settle() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// Whether an output is large enough, and aligned, to be stored past the caches.
static inline bool passes(const S* p, int64_t size) {
  return C % W == 0 && size * sizeof(S) > (4 << 20) && reinterpret_cast<uintptr_t>(p) % sizeof(V) == 0;
}

/// Whether an array doesn't stay in the caches near the processor by itself.
static inline bool is_far(int64_t size) { return size * sizeof(S) > (1 << 19); }

static inline bool within(int64_t row, int64_t rows) { return static_cast<uint64_t>(row) < static_cast<uint64_t>(rows); }

template <int N> static inline void put(bool past, S* p, V v) {
  if (N == W && past) store_past(p, v);
  else store<N>(p, v);
}

template <int N> static inline void add(S* p, V v) { store<N>(p, load<N>(p) + v); }

/// A vector with all lanes but the first N set to zero.
template <int N> static inline V keep(V v) {
  if (N == W) return v;
  V kept{};
  for (int i = 0; i < N; ++i) kept[i] = v[i];
  return kept;
}

typedef std::conditional_t<sizeof(S) == 8, int64_t, int32_t> Lane;
typedef Lane Lanes __attribute__((vector_size(W * sizeof(S))));

#if defined(__clang__)
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE(x, y, ...) __builtin_shuffle(x, y, Lanes{__VA_ARGS__})
#endif

/// Halves runs of L lanes: the sums of the two halves of every run of x, then those of y.
template <int L, size_t... I> static INLINE V fold(V x, V y, std::index_sequence<I...>) {
  constexpr size_t h = L / 2;
  return SHUFFLE(x, y, Lane(I / h * L + I % h)...) + SHUFFLE(x, y, Lane(I / h * L + I % h + h)...);
}

/// Sums over the lanes of `Count` vectors from `First` on, each spread over W / Count lanes.
template <int Count, int First, int M> static INLINE V totals(const V (&a)[M]) {
  if constexpr (First >= M) return V{};
  else if constexpr (Count == 1) return a[First];
  else
    return fold<2 * W / Count>(totals<Count / 2, First>(a), totals<Count / 2, First + Count / 2>(a),
                               std::make_index_sequence<W>());
}

/// Sums over the lanes of M vectors.
template <int First = 0, int M> static INLINE void reduce(const V (&a)[M], S* sums) {
  store<(M - First < W ? M - First : W)>(sums, totals<W, First>(a));
  if constexpr (M - First > W) reduce<First + W>(a, sums + W);
}

static inline void prefetch(const S* p, int64_t size) {
  for (int64_t i = 0; i < size; i += 64 / static_cast<int64_t>(sizeof(S))) __builtin_prefetch(p + i, 0, 2);
}
static inline void prefetch(S* p, int64_t size) {
  for (int64_t i = 0; i < size; i += 64 / static_cast<int64_t>(sizeof(S))) __builtin_prefetch(p + i, 1, 2);
}
static inline void zero(S* p, int64_t size) { std::memset(p, 0, size * sizeof(S)); }
static inline void clear(S* p, int64_t begin, int64_t end, int64_t width) {
  if (end > begin) zero(p + begin * width, (end - begin) * width);
}
static inline void merge(S* p, const S* q, int64_t width) {
  for (int64_t i = 0; i < width; ++i) p[i] += q[i];
}

/// Memory of a thread for vectors that one function leaves to another.
static inline S* scratch() {
  alignas(64) static thread_local S memory[n_rows * P];
  S* address = memory;
  __asm__("" : "+r"(address));  // else the compiler looks the address up again and again
  return address;
}

/// What is the same for all plans: which sites to run, in which order, and where scattered outputs change rows.
struct Common {
  const int64_t* key;
  const int64_t* order;
  int64_t n, rows, threads;
  void read(const int64_t* a) {
    key = reinterpret_cast<const int64_t*>(a[0]);
    order = reinterpret_cast<const int64_t*>(a[1]);
    n = a[2], rows = a[3], threads = a[4];
  }
  /// Row of the site before a position, -1 at the start.
  int64_t before(int64_t position) const {
    if (!key || position == 0) return -1;
    return key[order ? order[position - 1] : position - 1];
  }
};

/// Runs all parts of a work on the threads of the process, see `pool.cpp`.
typedef void (*Team)(void (*function)(void*, int64_t), void* data, int64_t parts);

/// A thread's share of the sites: where it adds to a row that an earlier share began, and to strewn outputs, which are
/// cleared before unless it `adds` to what is there.
struct Share {
  S* head = nullptr;
  int64_t row = -1;
  S* copy = nullptr;
  bool wrong = false;
  bool adds = false;
};

/// Parts are claimed one by one: results don't depend on how many threads there really are.
template <class Work> static void run_parts(Team team, int64_t parts, const Work& work) {
  const auto call = [](void* data, int64_t part) { (*static_cast<const Work*>(data))(part); };
  team(call, const_cast<Work*>(&work), parts);
}

/// Threads share the sites evenly. A row in the followed order belongs to the share that meets it first; what a later
/// share has of it is added afterwards, as are the copies of strewn outputs: results depend on the number of threads only.
/// Returns whether an index pointed outside its array.
template <class Job> static int64_t parallel(const Job& job, Team team) {
  if (job.n == 0) return job.clear(0, job.rows), job.clear_strewn(), 0;
  int64_t threads = job.threads;
  const int64_t useful = 1 + static_cast<int64_t>(static_cast<double>(job.n) * site_work / 2e5);
  if (threads > useful) threads = useful;
  if (threads > job.n) threads = job.n;
  Share first;
  if (threads <= 1) return job(0, job.n, first), first.wrong;
  const int64_t copied = job.copied();
  const int64_t stride = n_head + copied + 64;
  S* const memory = static_cast<S*>(std::malloc(threads * (stride * sizeof(S) + sizeof(Share))));
  Share* const shares = reinterpret_cast<Share*>(memory + threads * stride);
  for (int64_t t = 0; t < threads; ++t) {
    S* const own = memory + t * stride;
    shares[t] = {own, -1, t && copied ? own + n_head : nullptr, false};
  }
  run_parts(team, threads, [&](int64_t t) { job(job.n * t / threads, job.n * (t + 1) / threads, shares[t]); });
  for (int64_t t = 1; t < threads; ++t)
    if (shares[t].row >= 0) job.merge(shares[t].row, shares[t].head);
  if (copied)
    run_parts(team, threads, [&](int64_t part) {
      for (int64_t t = 1; t < threads; ++t) job.merge_strewn(shares[t].copy, part, threads);
    });
  bool wrong = false;
  for (int64_t t = 0; t < threads; ++t) wrong |= shares[t].wrong;
  std::free(memory);
  return wrong;
}
