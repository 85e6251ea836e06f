// KeepJobs: jobs that keep models as they should be: reading one whole, and fetching
// a damaged one again.
//
// verify   reads all files of a model and has the catalog judge them, for somebody who
//          waits for it.
// read     the same, quietly, by a limited rate and idle I/O. It has a thread of its own,
//          so that nobody waits for it.
// restore  fetches the files of a damaged model again from where they were pulled, the
//          very bytes that were recorded or none. What lies there is kept beside as
//          FILE.damaged, as a hard link, where the file system has such.
//
// A file that holds other bytes than recorded is judged only after it held them for
// `grace`, and nobody is fetching it: a pull replaces the file first, its record next.
//
// Threads: handlers run on the jobs' threads. Errors: `corrupt` for a damaged model,
// `unavailable` for one whose files change meanwhile, those of pulls. Private to library.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "jobs/runner.h"
#include "library/job_kinds.h"
#include "library/keeper.h"
#include "library/puller.h"

namespace hearth::library {

// What lies beside a file that is fetched again has its name and this.
inline constexpr std::string_view kDamagedSuffix = ".damaged";

struct KeepWish {
    std::string model;
    bool urgent = false;  // somebody waits for it
    bool operator==(KeepWish const&) const = default;
};
[[nodiscard]] std::string to_payload(KeepWish const& wish);
// `corrupt` for a payload that to_payload() did not write.
[[nodiscard]] Result<KeepWish> keep_wish_of(std::string const& payload);

// Whether there is a source to restore it from, and the files are ours to replace.
[[nodiscard]] bool is_restorable(catalog::Model const& model);

// What requests for a damaged model are told, and what can be done; and those for one that is being read.
[[nodiscard]] Error damaged(catalog::Model const& model);
[[nodiscard]] Error being_read(catalog::Model const& model);
// The one or the other: such a model is not passed on, under no name.
[[nodiscard]] Status check_sound(catalog::Model const& model);

// Does something on the keeper's thread, as Keeper::run().
using AtDesk = std::function<Status(std::function<Status(Keeper::Desk&)>, std::stop_token const&)>;

struct KeepPace {
    std::uint64_t bytes_per_s = 64U << 20;  // of a verification nobody waits for; 0: no bound
    std::chrono::milliseconds grace{2000};
};

class VerifyHandler final : public jobs::Handler {
public:
    explicit VerifyHandler(KeepPace pace) : pace_(pace) {}
    // REQUIRES: before the first job runs
    void set_desk(AtDesk at_desk) { at_desk_ = std::move(at_desk); }
    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

private:
    [[nodiscard]] Status read(jobs::Context& context, bool urgent, std::vector<catalog::ModelFile>& files) const;

    KeepPace const pace_;
    AtDesk at_desk_;
};

class RestoreHandler final : public jobs::Handler {
public:
    explicit RestoreHandler(Network network) : network_(std::move(network)) {}
    // REQUIRES: before the first job runs
    void set_desk(AtDesk at_desk) { at_desk_ = std::move(at_desk); }
    [[nodiscard]] jobs::Outcome run(jobs::Context& context) override;

private:
    Network const network_;
    AtDesk at_desk_;
};

// The files of `model` are as `pulled` says, which was checked when they came.
[[nodiscard]] Status note_pulled(Keeper::Desk& desk, fetch::Pulled const& pulled);

// A model of that name was just made or copied: a file in another one's place is what is
// recorded of it, and need not be read before it is served.
[[nodiscard]] Status note_made(Keeper::Desk& desk, std::string const& name);

}  // namespace hearth::library
