// A few threads that share the parts of a job and sleep in between. No barrier inside a job: whoever is free takes the
// next part, so that a thread that the system holds back delays no more than the part it is at.

#include <atomic>
#include <cstdint>
#include <new>
#include <pthread.h>
#include <unistd.h>

class Threads {
 public:
  typedef void (*Function)(void* context, int64_t part);
  static constexpr int most = 256;

  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { resize(1); }

  int count() const { return count_; }

  /// Use this many threads, the caller's among them; fewer where the system gives no more.
  void resize(int count) {
    stop();
    count_ = count < 1 ? 1 : count > most ? most : count;
  }

  /// Run all parts of a job; returns when they are done.
  template <class Work> void run(int64_t parts, const Work& work) {
    if (count_ <= 1 || parts <= 1) {
      for (int64_t part = 0; part < parts; ++part) work(part);
      return;
    }
    start();
    const auto call = [](void* context, int64_t part) { (*static_cast<const Work*>(context))(part); };
    share(parts, call, const_cast<Work*>(&work));
  }

 private:
  struct Job {
    Function function = nullptr;
    void* context = nullptr;
    int64_t parts = 0;
  };

  void start() {
    if (started_ == count_ - 1 && owner_ == getpid()) return;
    if (owner_ != getpid()) {  // threads do not survive a fork
      started_ = 0;
      new (&mutex_) pthread_mutex_t(PTHREAD_MUTEX_INITIALIZER);
      new (&wake_) pthread_cond_t(PTHREAD_COND_INITIALIZER);
      new (&done_) pthread_cond_t(PTHREAD_COND_INITIALIZER);
      idle_ = 0;
      busy_.store(0);
      owner_ = getpid();
    }
    stopping_ = false;
    while (started_ < count_ - 1) {
      if (pthread_create(&workers_[started_], nullptr, &Threads::loop, this)) break;
      ++started_;
    }
  }

  void stop() {
    if (started_ == 0 || owner_ != getpid()) return;
    pthread_mutex_lock(&mutex_);
    stopping_ = true;
    pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
    for (int k = 0; k < started_; ++k) pthread_join(workers_[k], nullptr);
    started_ = 0;
  }

  void share(int64_t parts, Function function, void* context) {
    pthread_mutex_lock(&mutex_);
    while (busy_.load(std::memory_order_acquire)) pthread_cond_wait(&done_, &mutex_);  // who came late to the last job
    job_ = {function, context, parts};
    next_.store(0, std::memory_order_relaxed);
    left_.store(parts, std::memory_order_relaxed);
    ++number_;
    seen_.store(number_, std::memory_order_release);
    if (idle_ > 0) pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
    work(job_);
    for (int k = 0; k < patience && !finished(); ++k) pause();
    pthread_mutex_lock(&mutex_);
    while (!finished()) pthread_cond_wait(&done_, &mutex_);
    pthread_mutex_unlock(&mutex_);
  }

  bool finished() const { return left_.load(std::memory_order_acquire) == 0 && busy_.load(std::memory_order_acquire) == 0; }

  void work(const Job& job) {
    for (int64_t part; (part = next_.fetch_add(1, std::memory_order_relaxed)) < job.parts;) {
      job.function(job.context, part);
      left_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  static void* loop(void* self) {
    static_cast<Threads*>(self)->loop();
    return nullptr;
  }

  void loop() {
    uint64_t last = 0;
    while (true) {
      for (int k = 0; k < patience && seen_.load(std::memory_order_acquire) == last; ++k) pause();
      pthread_mutex_lock(&mutex_);
      while (!stopping_ && (number_ == last || left_.load(std::memory_order_relaxed) == 0)) {
        last = number_;
        ++idle_;
        pthread_cond_wait(&wake_, &mutex_);
        --idle_;
      }
      if (stopping_) break;
      last = number_;
      const Job job = job_;
      busy_.fetch_add(1, std::memory_order_acq_rel);
      pthread_mutex_unlock(&mutex_);
      work(job);
      pthread_mutex_lock(&mutex_);
      busy_.fetch_sub(1, std::memory_order_acq_rel);
      if (finished()) pthread_cond_signal(&done_);
      pthread_mutex_unlock(&mutex_);
    }
    pthread_mutex_unlock(&mutex_);
  }

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  /// Turns before a thread that waits goes to sleep: some 20 microseconds.
  static constexpr int patience = 500;

  int count_ = 1, started_ = 0, idle_ = 0;
  pid_t owner_ = 0;
  bool stopping_ = false;
  uint64_t number_ = 0;
  Job job_;
  std::atomic<uint64_t> seen_{0};
  std::atomic<int64_t> next_{0}, left_{0}, busy_{0};
  pthread_t workers_[most];
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER, done_ = PTHREAD_COND_INITIALIZER;
};
