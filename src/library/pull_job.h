// PullJob: a pull as a job: what it is to get, and how it is done.
//
// The progress text of a pull is one of: "pulling manifest", "pulling sha256:HEX",
// "pulling FILE" where nobody says a hash, "waiting: WHY", "verifying sha256 digest",
// "writing manifest", "success". Of each file there is a part, with
// its stage_word() as its state.
//
// Threads: the functions are pure; a handler's run() comes on the jobs' threads.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/known_models.h"
#include "fetch/sources/pull.h"
#include "fetch/sources/reference.h"
#include "jobs/runner.h"
#include "library/job_kinds.h"
#include "library/puller.h"

namespace hearth::library {

// "waiting" (for who fetches the same), "connecting", "pausing", "fetching", "verifying", "done"; and back.
[[nodiscard]] std::string_view stage_word(fetch::Stage stage);
[[nodiscard]] std::optional<fetch::Stage> stage_of(std::string_view word);

// What somebody asks for.
struct PullWish {
    std::string model;      // what to get; with `source`, what to call it
    std::string source;     // empty: `model` says it
    bool insecure = false;  // also without TLS from other machines
    std::uint64_t bytes_per_s = 0;  // of this pull at most, within what all share; 0: that alone
    bool operator==(PullWish const&) const = default;
};

// What that means.
struct PullTarget {
    fetch::Reference reference;
    std::string rename;    // empty: as its source calls it
    std::string sha256{};  // of its one file, where the list of known models says it
};

// `model` is a reference, or the name of a known model, or else, as with Ollama, a
// name in its registry. A known model whose source nobody can fetch is looked for there,
// too. Fails with `invalid_argument`.
[[nodiscard]] Result<PullTarget> resolve_wish(PullWish const& wish, std::vector<catalog::KnownModel> const& known);

// Whether what came is called otherwise than it was asked for: not where the wish says what to
// call it. Paths and addresses are no names.
[[nodiscard]] bool is_named_otherwise(PullWish const& wish, fetch::Pulled const& pulled);

// Then the name it was asked for by becomes one the model is found and listed by. What lay
// there before anybody pulled it keeps its own name as well.
[[nodiscard]] Status name_pulled(catalog::Catalog& catalog, PullWish const& wish, fetch::Pulled const& pulled);

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

    // REQUIRES: before the first job runs; outlives them
    void set_holdings(fetch::Holdings* holdings) { holdings_ = holdings; }

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
    fetch::Holdings* holdings_ = nullptr;
    Learn learn_;
    Tell tell_;
};

}  // namespace hearth::library
