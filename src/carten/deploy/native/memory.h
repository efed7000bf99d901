// Memory that grows and is kept from one evaluation to the next.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

/// Aligned numbers of one type; growing forgets what was there.
template <class T> class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  /// At least n numbers. Throws std::bad_alloc.
  T* sized(int64_t n) {
    if (n > capacity_) {
      std::free(data_);
      data_ = nullptr;
      capacity_ = 0;
      const int64_t wanted = n + n / 8 + 16;
      const size_t bytes = (static_cast<size_t>(wanted) * sizeof(T) + 63) / 64 * 64;
      data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
      if (!data_) throw std::bad_alloc();
      capacity_ = wanted;
    }
    return data_;
  }
  /// At least n numbers, the first n of them zero.
  T* zeroed(int64_t n) {
    T* data = sized(n);
    if (n > 0) std::memset(static_cast<void*>(data), 0, static_cast<size_t>(n) * sizeof(T));
    return data;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};
