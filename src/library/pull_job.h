// PullJob: a pull as a job: what it is to get, and how it is done.
//
// The progress text of a pull is one of: "pulling manifest", "pulling sha256:HEX",
// "pulling FILE" where nobody says a hash, "waiting: WHY", "verifying sha256 digest",
// "writing manifest", "success".
//
// Threads: the functions are pure; a handler's run() comes on the jobs' threads.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "catalog/known_models.h"
#include "fetch/sources/pull.h"
#include "fetch/sources/reference.h"
#include "jobs/runner.h"
#include "library/job_kinds.h"
#include "library/puller.h"

namespace hearth::library {

// What somebody asks for.
struct PullWish {
    std::string model;      // what to get; with `source`, what to call it
    std::string source;     // empty: `model` says it
    bool insecure = false;  // also without TLS from other machines
    bool operator==(PullWish const&) const = default;
};

// What that means.
struct PullTarget {
    fetch::Reference reference;
    std::string rename;  // empty: as its source calls it
};

// `model` is a reference, or the name of a known model, or else, as with Ollama, a
// name in its registry. Fails with `invalid_argument`; `unsupported` for a known model
// whose source no client may fetch.
[[nodiscard]] Result<PullTarget> resolve_wish(PullWish const& wish, std::vector<catalog::KnownModel> const& known);

[[nodiscard]] std::string to_payload(PullWish const& wish);
// `corrupt` for a payload that to_payload() did not write.
[[nodiscard]] Result<PullWish> from_payload(std::string const& payload);

// Pulls as a job does: progress is reported, the job's stop ends it, `learn` makes known
// what came. What may pass is tried again, unless nothing was begun.
[[nodiscard]] jobs::Outcome pull_as_job(jobs::Context& context, Network network, PullOrder order,
                                        std::function<Status(fetch::Pulled const&)> const& learn);

class PullHandler final : public jobs::Handler {
public:
    // What came is made known: the model can be found when this returns.
    using Learn = std::function<Status(PullWish const&, fetch::Pulled const&, std::stop_token const&)>;

    PullHandler(Network network, std::vector<catalog::KnownModel> known, std::string folder)
        : network_(std::move(network)), known_(std::move(known)), folder_(std::move(folder)) {}

    // Why a job of that id failed, before that is written down.
    using Tell = std::function<void(std::string const& id, Error const& why)>;

    // REQUIRES: before the first job runs
    void set_learn(Learn learn) { learn_ = std::move(learn); }
    void set_tell(Tell tell) { tell_ = std::move(tell); }

    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

private:
    Network const network_;
    std::vector<catalog::KnownModel> const known_;
    std::string const folder_;
    Learn learn_;
    Tell tell_;
};

}  // namespace hearth::library
