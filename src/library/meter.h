// Meter: how far a job is with each of the things it has to do.
//
// Progress is written to a database now and then, which waits for the disk; who fetches
// or sends must not wait with it. So the meter keeps the latest numbers, and a thread of
// its own reports them.
//
// Threads:   all but construction and end() from any thread.
// Ownership: the context outlives it.
// Limits:    reports at most every kMeterPace; what is said in between is told by its
//            numbers only, the last word always. Private to library.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "jobs/runner.h"

namespace hearth::library {

inline constexpr std::chrono::milliseconds kMeterPace{50};

class Meter {
public:
    explicit Meter(jobs::Context& context);
    ~Meter();  // end()
    Meter(Meter const&) = delete;
    Meter& operator=(Meter const&) = delete;

    // One thing more to do; its place. Its name is what jobs::Part says of names.
    std::size_t add(jobs::Part part);
    // REQUIRES: `place` was given by add()
    void set(std::size_t place, std::uint64_t done, std::uint64_t total);
    // What is done with it now, in the kind's words, and why it waits.
    void tell(std::size_t place, std::string state, std::string note);
    // What it does now.
    void say(std::string text);
    void all_done();

    // The last word was reported when it comes back. Nothing may be called after it.
    void end();

private:
    void run(std::stop_token const& stop);
    void touch();

    jobs::Context& context_;
    std::mutex mutex_;  // guards the next three
    std::condition_variable_any touched_;
    jobs::Progress progress_;  // done and total are added up when it is told
    bool untold_ = false;
    std::jthread thread_;  // last: it uses all of the above
};

}  // namespace hearth::library
