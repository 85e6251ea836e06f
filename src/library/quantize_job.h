// QuantizeJob: a model's file in another form, made as a job before the model is served.
//
// How that is done is the server's: `make` gives the file, which its owner keeps where
// it is for as long as `hold` lives. The last kReshapedKept are remembered by their
// jobs, of each file the last one, so that those who wait for one find what came of it; once somebody
// took it, it stays for as long as somebody has it.
//
// The progress text is one of "converting model", "quantizing model"; the numbers are
// bytes of weights. What fails is not tried again by itself: the next request asks anew.
//
// Threads: run() comes on a job's thread, result_of() on any; the rest is pure.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "jobs/runner.h"
#include "library/creation.h"
#include "library/job_kinds.h"

namespace hearth::library {

inline constexpr std::size_t kReshapedKept = 16;

// A file to serve in place of another one.
struct Reshaped {
    std::string path;  // empty: the original
    std::shared_ptr<void> hold;
};

// How models are served that were not named when the server started.
struct Reshape {
    // Whether the file is to be served in another form. Reads its header; may block. Empty: none is.
    std::function<Result<bool>(std::string const& path)> wanted{};
    // Makes that form, or finds it where it was made before. Blocks; false from the watcher stops it.
    std::function<Result<Reshaped>(std::string const& path, std::function<bool(MakeProgress const&)> const& watch)>
        make{};
    // Who asks for a model meanwhile gets its original, as does who asks when it cannot be made.
    bool original_meanwhile = false;
    // Until then a model that could not be made is not tried again.
    Duration try_again_after = std::chrono::minutes(1);
};

struct QuantizeWish {
    std::string model;
    std::string path;  // of its first file
    bool operator==(QuantizeWish const&) const = default;
};
[[nodiscard]] std::string to_payload(QuantizeWish const& wish);
// `corrupt` for a payload that to_payload() did not write.
[[nodiscard]] Result<QuantizeWish> quantize_wish_of(std::string const& payload);

class QuantizeHandler final : public jobs::Handler {
public:
    using Make = decltype(Reshape::make);
    // Why a job of that id failed, before that is written down.
    using Tell = std::function<void(std::string const& id, Error const& why)>;

    explicit QuantizeHandler(Make make) : make_(std::move(make)) {}
    // REQUIRES: before the first job runs
    void set_tell(Tell tell) { tell_ = std::move(tell); }

    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

    // What the job of that id made in this process; nothing where it did not, or long ago, or another one made it
    // anew, or who took it let it go.
    [[nodiscard]] std::optional<Reshaped> result_of(std::string const& id);

private:
    // What a job made.
    struct Kept {
        std::string job;
        std::string source;  // what it was made of
        Reshaped file;  // its hold is here until somebody took it
        bool held = false;  // whether there is one
        std::weak_ptr<void> lent;  // afterwards
    };

    [[nodiscard]] Status make(jobs::Context& context);

    Make const make_;
    Tell tell_;
    std::mutex mutex_;  // guards the next
    std::deque<Kept> results_;  // the newest last
};

}  // namespace hearth::library
