// pull(): a plan becomes a model in a folder.
//
// Files land under their names one by one, each whole; the one by which the model
// is found comes last, so that a set is found when it is complete. Beside them
// MODEL.hearth.json says where the model came from, with each file's hash, and what
// a registry told with it (template, system, params, license).
//
// Bytes that this machine has already (holdings.h) are linked and not fetched, or copied by the
// downloader where there can be no link.
//
// What lies in the folder and was not pulled from the same source, or is being pulled from
// another one at the moment, is never overwritten: the plan goes by its other name, or pull()
// fails with `invalid_argument` and says how to go on. That is decided under the FolderLock.
//
// Threads: the loop's. Limits: kFilesAtOnce, kTurnWaitMax, kFolderWaitMax. Errors: of
// Downloader; `unavailable` where somebody else changes the folder all the time.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/downloader.h"
#include "fetch/sources/holdings.h"
#include "fetch/sources/note.h"
#include "fetch/sources/plan.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::fetch {

inline constexpr unsigned kFilesAtOnce = 3;
inline constexpr Duration kTurnPoll = std::chrono::milliseconds(100);  // while another pull fetches the same file
inline constexpr Duration kTurnWaitMax = std::chrono::hours(24);
inline constexpr std::chrono::minutes kFolderWaitMax{60};  // who copies a model into it may hold its lock meanwhile

struct PulledFile {
    std::string path;
    std::uint64_t size = 0;
    std::string sha256;
    bool present = false;  // was there already
};

struct Pulled {
    std::string model, source, revision;
    std::vector<PulledFile> files;  // as in the plan: the first is the one to open
    std::uint64_t fetched = 0;      // bytes over the network
    bool found = false;             // a file of that name lay there before, and no pull had put it there
};

// Called with the index of a file of the plan.
using PullListener = std::function<void(std::size_t, FileProgress const&)>;

struct PullHooks {
    PullListener progress;           // may be empty
    std::function<bool()> stopped;  // asked between files, and where nothing runs that could be cancelled; empty: never
    Holdings* holdings = nullptr;  // null: everything is fetched
    std::function<void(Plan const&)> planned{};  // called once nothing of the plan changes any more; may be empty
};

net::Task<Result<Pulled>> pull(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder, PullHooks hooks);

// Whether some process is fetching the file at `path` at this moment.
[[nodiscard]] bool is_being_fetched(std::string const& path);

// Restoring: the plan may only bring what `note` says of its files, whatever its source has by
// now; what that says nothing of must have the hash that was noted. `corrupt` where it is another
// version by now, or other files than were noted.
[[nodiscard]] Status hold_to(Plan& plan, Note const& note);

// A GGUF file, or all of a split of which it is one, gets a place in the folder: as
// a hard link where the file system allows, which takes no room, else as a copy. So does
// the one model of a folder: its GGUF file or split, else its safetensors and what belongs
// to them, as a folder of that name. `invalid_argument` for a folder of several models.
// `name` empty: its own. Blocks while it copies.
[[nodiscard]] Result<Pulled> import_local(LocalReference const& reference, std::string const& name,
                                          std::string const& folder);

}  // namespace hearth::fetch
