#include "library/meter.h"

#include <utility>

namespace hearth::library {
namespace {

jobs::Progress summed(jobs::Progress progress) {
    for (auto const& part : progress.parts) {
        progress.done += part.done;
        progress.total += part.total;
    }
    return progress;
}

}  // namespace

Meter::Meter(jobs::Context& context) : context_(context), thread_([this](std::stop_token const& stop) { run(stop); }) {}

Meter::~Meter() { end(); }

std::size_t Meter::add(jobs::Part part) {
    std::scoped_lock const lock(mutex_);
    progress_.parts.push_back(std::move(part));
    touch();
    return progress_.parts.size() - 1;
}

void Meter::set(std::size_t place, std::uint64_t done, std::uint64_t total) {
    std::scoped_lock const lock(mutex_);
    auto& part = progress_.parts.at(place);
    part.done = done;
    part.total = total;
    touch();
}

void Meter::tell(std::size_t place, std::string state, std::string note) {
    std::scoped_lock const lock(mutex_);
    auto& part = progress_.parts.at(place);
    part.state = std::move(state);
    part.note = std::move(note);
    touch();
}

void Meter::say(std::string text) {
    std::scoped_lock const lock(mutex_);
    progress_.text = std::move(text);
    touch();
}

void Meter::all_done() {
    std::scoped_lock const lock(mutex_);
    for (auto& part : progress_.parts) {
        part.done = part.total;
        if (!part.file.empty()) part.state = "done";
    }
    touch();
}

void Meter::touch() {
    untold_ = true;
    touched_.notify_one();
}

void Meter::end() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
}

void Meter::run(std::stop_token const& stop) {
    std::unique_lock lock(mutex_);
    while (touched_.wait(lock, stop, [this] { return untold_; })) {
        untold_ = false;
        auto progress = progress_;
        lock.unlock();
        // That the job is to stop is heard by its stop token, too.
        static_cast<void>(context_.report(summed(std::move(progress))));
        lock.lock();
        touched_.wait_for(lock, stop, kMeterPace, [] { return false; });
    }
}

}  // namespace hearth::library
