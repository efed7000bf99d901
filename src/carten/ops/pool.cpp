/// The threads that all kernels of a process share. While one caller uses them, the parts of another run one by one.
static Threads& threads = *new Threads;  // never destroyed: kernels may run until the process ends
static std::atomic<pid_t> user{0};

static bool take() {
  const pid_t self = getpid();
  pid_t holder = 0;
  return user.compare_exchange_strong(holder, self) ||
         (holder != self && user.compare_exchange_strong(holder, self));  // held when this process was forked
}

extern "C" void run(void (*function)(void*, int64_t), void* data, int64_t parts) {
  const auto work = [=](int64_t part) { function(data, part); };
  if (!take()) {
    for (int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  if (threads.count() < parts) threads.resize(static_cast<int>(parts < Threads::most ? parts : Threads::most));
  threads.run(parts, work);
  user.store(0);
}
