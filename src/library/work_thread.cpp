#include "library/work_thread.h"

#include <fmt/format.h>

namespace hearth::library {

WorkThread::WorkThread(Options options) : options_(std::move(options)), thread_([this] { live(); }) {}

WorkThread::~WorkThread() {
    {
        std::lock_guard const lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

Status WorkThread::post(std::function<void()> task) {
    {
        std::lock_guard const lock(mutex_);
        if (stopping_) return Error(Code::unavailable, "the server is shutting down");
        if (tasks_.size() >= options_.tasks_max)
            return Error(Code::overloaded, fmt::format("{} {} wait, which is the limit", tasks_.size(), options_.what));
        tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
    return ok();
}

void WorkThread::live() {
    auto due = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        if (options_.chore && std::chrono::steady_clock::now() >= due) {
            lock.unlock();
            options_.chore();
            due = std::chrono::steady_clock::now() + options_.every;
            lock.lock();
            continue;
        }
        if (tasks_.empty()) {
            if (options_.chore) changed_.wait_until(lock, due);
            else changed_.wait(lock);
            continue;
        }
        auto task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.unlock();
        task();
        task = nullptr;  // what it holds goes before the next one is waited for
        lock.lock();
    }
}

}  // namespace hearth::library
