#include "fetch/sources/pull.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "fetch/folder_lock.h"
#include "fetch/partial_file.h"
#include "fetch/sources/claim.h"
#include "fetch/sources/hub_files.h"
#include "fetch/sources/note.h"

namespace hearth::fetch {
namespace {

namespace fs = std::filesystem;

// FILE, FOLDER/FILE or FOLDER/FOLDER/FILE.
bool stays_inside(std::string const& name) {
    constexpr std::size_t kParts = 3;
    std::size_t parts = 0;
    for (std::size_t at = 0; at <= name.size(); ++parts) {
        auto const end = std::min(name.find('/', at), name.size());
        if (!is_file_name(name.substr(at, end - at))) return false;
        at = end + 1;
    }
    return parts <= kParts;
}

Status make_folders(std::string const& folder, Plan const& plan) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    for (auto const& file : plan.files) {
        if (!stays_inside(file.name))
            return Error(Code::invalid_argument,
                         fmt::format("'{}' is no name for a file in a models folder", file.name));
        if (!failed) fs::create_directories(fs::path(folder + "/" + file.name).parent_path(), failed);
    }
    if (failed) return Error(Code::io, fmt::format("cannot make the folder '{}': {}", folder, failed.message()));
    return ok();
}

// As a kernel that protects hard links sees it, the usual way: within one file system, of one's own files
// and those that one may write.
bool may_link(std::string const& from, std::string const& folder) {
    struct stat file{}, target{};
    if (::stat(from.c_str(), &file) != 0 || ::stat(folder.c_str(), &target) != 0) return false;
    bool const ours = file.st_uid == ::geteuid() || ::access(from.c_str(), R_OK | W_OK) == 0;
    return file.st_dev == target.st_dev && ours;
}

// All files together: better no file than all but one. What is here already and can be linked takes none.
Status check_room(std::string const& folder, Plan const& plan, Holdings* holdings) {
    std::uint64_t needed = 0;
    for (auto const& file : plan.files) {
        std::error_code missing;
        auto const path = folder + "/" + file.name;
        bool const begun = fs::exists(path, missing) || fs::exists(path + ".partial", missing);
        bool const asked = !begun && holdings != nullptr && !file.sha256.empty();
        auto const held = asked ? holdings->find(file.sha256) : std::nullopt;
        if (!begun && !(held && may_link(*held, folder))) needed += file.size.value_or(0);
    }
    HEARTH_TRY(auto const free, free_bytes(folder + "/."));
    if (needed > free)
        return Error(Code::exhausted,
                     fmt::format("no room for '{}': {} more bytes are needed, {} are free in {}", plan.model, needed,
                                 free, folder),
                     "disk");
    return ok();
}

// Whether `to` is a link now. There is none to another file system, nor, as a rule, to others' files.
bool link_file(std::string const& from, std::string const& to) {
    std::error_code failed;
    // The file itself: a link's own text would lead elsewhere from there.
    auto const real = fs::canonical(from, failed);
    if (!failed) fs::create_hard_link(real, to, failed);
    return !failed;
}

// A link, or a copy where there can be none; whole under its name or absent.
Status place(std::string const& from, std::string const& to) {
    std::error_code failed;
    if (fs::exists(to, failed)) {
        if (fs::equivalent(from, to, failed)) return ok();
        return Error(Code::invalid_argument, fmt::format("'{}' is there already and is another file", to));
    }
    if (link_file(from, to)) return ok();
    HEARTH_TRY(auto partial, PartialFile::open(to));
    auto const size = fs::file_size(from, failed);
    if (failed) return Error(Code::io, fmt::format("cannot read '{}': {}", from, failed.message()));
    auto const copied = [&]() -> Status {
        HEARTH_CHECK(partial->clear());
        HEARTH_CHECK(partial->reserve(size));
        if (!fs::copy_file(from, to + ".partial", fs::copy_options::overwrite_existing, failed))
            return Error(Code::io, fmt::format("cannot copy '{}' to '{}': {}", from, to, failed.message()));
        return partial->publish(size);
    }();
    if (!copied) partial->discard();
    return copied;
}

// The right to fetch some bytes, given back with where they are, whatever ends the pull.
class Turn {
public:
    Turn(Holdings& holdings, std::string sha256) : holdings_(holdings), sha256_(std::move(sha256)) {}
    ~Turn() { holdings_.end(sha256_, path_); }
    Turn(Turn const&) = delete;
    Turn& operator=(Turn const&) = delete;
    void came(std::string path) { path_ = std::move(path); }

private:
    Holdings& holdings_;
    std::string const sha256_;
    std::string path_;
};

// A file of this machine that should hold the bytes of one that is wanted.
struct Borrowed {
    std::string from;     // empty: there is none
    bool linked = false;  // into its place, where the download checks it; else it is copied
};

// The files of one plan on their way; kFilesAtOnce coroutines take them in turn.
class Pull {
public:
    Pull(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder, PullHooks hooks)
        : loop_(loop),
          downloader_(downloader),
          plan_(std::move(plan)),
          folder_(std::move(folder)),
          hooks_(std::move(hooks)),
          ended_(loop) {}

    net::Task<Result<Pulled>> run() {
        if (plan_.files.empty() || plan_.files.size() > kPlanFilesMax)
            co_return Error(Code::invalid_argument,
                            fmt::format("a model of {} files, the limit is {}", plan_.files.size(), kPlanFilesMax));
        auto const settled = co_await settle_name();
        if (!settled) co_return settled.error();
        if (hooks_.planned) hooks_.planned(plan_);
        auto const room = check_room(folder_, plan_, hooks_.holdings);
        if (!room) {
            claim_->give_up(plan_);
            co_return room.error();
        }
        results_.resize(plan_.files.size());
        for (unsigned i = 0; i < kFilesAtOnce; ++i) {
            ++running_;
            loop_.spawn(take_files());
        }
        while (running_ > 0) co_await ended_.wait();
        if (!failure_) co_await fetch_one(0);
        if (failure_) {
            claim_->give_up(plan_);
            co_return *failure_;
        }
        co_return finish();
    }

private:
    // Polled, since whoever holds the lock may be copying a large model. A coroutine may be stopped meanwhile.
    net::Task<Status> settle_name() {
        auto const made = make_folders(folder_, plan_);
        if (!made) co_return made;
        for (Duration waited{};; waited += kTurnPoll) {
            auto const alone = FolderLock::take(folder_, std::chrono::milliseconds(0));
            if (alone) co_return settle_name_alone();
            if (alone.error().code != Code::unavailable) co_return alone.error();
            if (stopped()) co_return Error(Code::cancelled, "the pull was stopped");
            if (waited >= kFolderWaitMax)
                co_return Error(Code::unavailable,
                                fmt::format("another process changes the models in '{}' for more than {} minutes",
                                            folder_, kFolderWaitMax.count()));
            co_await loop_.sleep(kTurnPoll);
        }
    }

    // What lies there already and is none of ours Existing::keep looks after.
    Status settle_name_alone() {
        make_way(plan_, folder_);
        HEARTH_CHECK(make_folders(folder_, plan_));  // its files may have other names now
        HEARTH_TRY(auto claim, Claim::take(folder_, plan_));
        claim_.emplace(std::move(claim));
        return ok();
    }

    // Of what lies under the names of the files, where that is this source's.
    [[nodiscard]] std::optional<Note> const& known() const { return claim_->known(); }

    net::Task<void> take_files() {
        while (!failure_ && next_ < plan_.files.size()) {
            auto const index = next_++;
            co_await fetch_one(index);
        }
        --running_;
        ended_.notify();
    }

    [[nodiscard]] bool stopped() const { return hooks_.stopped && hooks_.stopped(); }

    void fail(Error error) {
        if (!failure_) failure_ = std::move(error);
        downloader_.cancel_all();
    }

    net::Task<void> fetch_one(std::size_t index) {
        auto const& sha256 = plan_.files[index].sha256;
        if (hooks_.holdings == nullptr || sha256.empty()) {
            Borrowed nothing;
            static_cast<void>(co_await download(index, std::move(nothing)));
            co_return;
        }
        auto const free = co_await wait_for_turn(index);
        if (!free) {
            fail(free.error());
            co_return;
        }
        Turn turn(*hooks_.holdings, sha256);
        auto borrowed = borrow(plan_.files[index]);
        bool const came = co_await download(index, std::move(borrowed));
        if (came) turn.came(folder_ + "/" + plan_.files[index].name);
    }

    // Until nobody else fetches the same bytes.
    net::Task<Status> wait_for_turn(std::size_t index) {
        for (Duration waited{}; !hooks_.holdings->begin(plan_.files[index].sha256); waited += kTurnPoll) {
            if (failure_) co_return *failure_;
            if (stopped()) co_return Error(Code::cancelled, "the pull was stopped");
            if (waited >= kTurnWaitMax)
                co_return Error(Code::unavailable,
                                fmt::format("another pull fetches '{}' for more than {} hours", plan_.files[index].name,
                                            std::chrono::duration_cast<std::chrono::hours>(kTurnWaitMax).count()));
            FileProgress progress;
            progress.stage = Stage::locked;
            progress.total = plan_.files[index].size.value_or(0);
            progress.note = "another pull fetches the same file";
            if (hooks_.progress) hooks_.progress(index, progress);
            co_await loop_.sleep(kTurnPoll);
        }
        co_return ok();
    }

    // REQUIRES: there are holdings
    [[nodiscard]] Borrowed borrow(PlannedFile const& file) const {
        Borrowed borrowed;
        std::error_code missing;
        auto const path = folder_ + "/" + file.name;
        if (fs::exists(path, missing)) return borrowed;
        borrowed.from = hooks_.holdings->find(file.sha256).value_or("");
        borrowed.linked = !borrowed.from.empty() && link_file(borrowed.from, path);
        return borrowed;
    }

    // What the download did not find to be right does not stay under that name.
    static void remove_link(Borrowed const& borrowed, std::string const& path) {
        std::error_code failed;
        if (borrowed.linked && fs::equivalent(borrowed.from, path, failed)) fs::remove(path, failed);
    }

    // Whether it came.
    net::Task<bool> download(std::size_t index, Borrowed borrowed) {
        auto const& file = plan_.files[index];
        auto const path = folder_ + "/" + file.name;
        if (stopped()) {
            remove_link(borrowed, path);
            fail(Error(Code::cancelled, "the pull was stopped"));
            co_return false;
        }
        FileRequest request;
        request.url = file.url;
        request.path = path;
        request.authorization = file.authorization;
        request.sha256 = file.sha256;
        request.size = file.size;
        request.existing = known() || borrowed.linked ? Existing::replace : Existing::keep;
        if (!borrowed.linked) request.held = borrowed.from;
        auto const* const noted = known() ? known()->find(file.name) : nullptr;
        if (noted != nullptr) request.present_etag = noted->etag;
        auto const listener = [this, index](FileProgress const& progress) {
            if (hooks_.progress) hooks_.progress(index, progress);
        };
        auto result = co_await downloader_.fetch(std::move(request), listener);
        if (!result) {
            remove_link(borrowed, path);
            fail(result.error());
            co_return false;
        }
        if (result->present && noted != nullptr) {
            if (result->sha256.empty()) result->sha256 = noted->sha256;
            if (result->etag.empty()) result->etag = noted->etag;
        }
        results_[index] = std::move(*result);
        co_return true;
    }

    Result<Pulled> finish() {
        auto note = note_of(plan_);
        Pulled pulled;
        pulled.model = plan_.model;
        pulled.source = plan_.source;
        pulled.revision = plan_.revision;
        pulled.found = !known();
        for (std::size_t i = 0; i < results_.size(); ++i) {
            auto const& result = results_[i];
            note.files.push_back({plan_.files[i].name, result.size, result.sha256, result.etag});
            pulled.files.push_back({folder_ + "/" + plan_.files[i].name, result.size, result.sha256, result.present});
            pulled.fetched += result.fetched;
        }
        HEARTH_CHECK(write_note(folder_, plan_.model, note));
        remove_old_adapters(note);
        return pulled;
    }

    // The version that was there before had others.
    void remove_old_adapters(Note const& now) const {
        if (!known()) return;
        for (auto const& name : known()->adapters) {
            std::error_code failed;
            if (std::ranges::find(now.adapters, name) == now.adapters.end()) fs::remove(folder_ + "/" + name, failed);
        }
    }

    net::Loop& loop_;
    Downloader& downloader_;
    Plan plan_;  // as it was given, but for its name
    std::string const folder_;
    PullHooks const hooks_;
    std::optional<Claim> claim_;  // once its name is settled
    std::vector<FileResult> results_;
    std::optional<Error> failure_;
    std::size_t next_ = 1;  // the first comes last
    unsigned running_ = 0;
    net::Signal ended_;
};

// The parts of the split that `path` is one of; itself if it is none.
std::vector<std::string> parts_of(std::string const& path) {
    auto const suffix = split_suffix(path);
    if (suffix.empty()) return {path};
    std::vector<std::string> parts;
    std::error_code failed;
    auto const parent = fs::path(path).parent_path();
    for (fs::directory_iterator it(parent.empty() ? fs::path(".") : parent, failed), end;
         !failed && it != end && parts.size() <= kPlanFilesMax; it.increment(failed)) {
        auto const other = it->path().filename().string();
        bool const same = gguf_stem(other) == gguf_stem(path) && split_suffix(other).substr(6) == suffix.substr(6);
        if (!split_suffix(other).empty() && same) parts.push_back(it->path().string());
    }
    std::ranges::sort(parts);
    return parts;
}

// What is in a folder as if it were a repository.
Result<std::vector<HubFile>> files_in(std::string const& folder) {
    std::vector<HubFile> files;
    std::error_code failed;
    for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
        std::error_code unknown;
        auto name = it->path().filename().string();
        auto path = it->path();
        // The config of a part of the model.
        if (is_file_name(name) && it->is_directory(unknown)) {
            name += "/config.json";
            path /= "config.json";
        }
        if (!fs::is_regular_file(path, unknown)) continue;
        if (files.size() >= kHubFilesMax)
            return Error(Code::too_large, fmt::format("'{}' has more than {} files", folder, kHubFilesMax));
        files.push_back({std::move(name), fs::file_size(path, unknown), ""});
    }
    if (failed) return Error(Code::io, fmt::format("cannot read the folder '{}': {}", folder, failed.message()));
    std::ranges::sort(files, {}, &HubFile::path);
    return files;
}

struct LocalPlan {
    Plan plan;
    std::vector<std::string> from;  // of each file of the plan
};

Result<LocalPlan> plan_folder(std::string const& folder) {
    HEARTH_TRY(auto const all, files_in(folder));
    std::set<std::string> models;
    for (auto const& file : all)
        if (file.path.ends_with(".gguf") && !file.path.starts_with("mmproj")) models.insert(gguf_stem(file.path));
    if (models.size() > 1)
        return Error(Code::invalid_argument,
                     fmt::format("'{}' holds {} models, '{}' among them: name one of its files, or use all of them "
                                 "where they are with `hearth import`",
                                 folder, models.size(), *models.begin()),
                     "name");
    HEARTH_TRY(auto chosen, choose_gguf(all, ""));
    std::string prefix;
    std::error_code failed;
    auto const real = fs::canonical(folder, failed);
    if (chosen.empty()) {
        chosen = choose_safetensors(all);
        prefix = real.filename().string() + "/";
    }
    if (chosen.empty())
        return Error(Code::not_found,
                     fmt::format("'{}' holds neither GGUF files nor safetensors with a config.json", folder), "name");
    LocalPlan out;
    out.plan.model = prefix.empty() ? gguf_stem(chosen.front().path) : real.filename().string();
    for (auto const& file : chosen) {
        PlannedFile planned;
        planned.name = prefix + file.path;
        out.plan.files.push_back(std::move(planned));
        out.from.push_back((real / file.path).string());
    }
    return out;
}

Result<LocalPlan> plan_local(std::string const& path) {
    std::error_code failed;
    if (fs::is_directory(path, failed)) return plan_folder(path);
    if (!fs::is_regular_file(path, failed))
        return Error(Code::not_found, fmt::format("'{}' is neither a file nor a folder", path), "name");
    if (!path.ends_with(".gguf"))
        return Error(Code::invalid_argument, fmt::format("'{}' is no .gguf file", path), "name");
    LocalPlan out;
    out.plan.model = gguf_stem(path);
    out.from = parts_of(path);
    for (auto const& part : out.from) {
        PlannedFile file;
        file.name = fs::path(part).filename().string();
        out.plan.files.push_back(std::move(file));
    }
    return out;
}

}  // namespace

net::Task<Result<Pulled>> pull(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder,
                               PullHooks hooks) {
    Pull running(loop, downloader, std::move(plan), std::move(folder), std::move(hooks));
    co_return co_await running.run();
}

bool is_being_fetched(std::string const& path) { return PartialFile::is_held(path); }

Status hold_to(Plan& plan, Note const& note) {
    plan.source = note.source;
    if (plan.files.size() != note.files.size())
        return Error(Code::corrupt, fmt::format("'{}' has {} files of '{}' by now, {} were noted; `hearth pull` gets "
                                                "those",
                                                note.source, plan.files.size(), plan.model, note.files.size()));
    for (auto& file : plan.files) {
        auto const* const noted = note.find(file.name);
        if (noted == nullptr)
            return Error(Code::corrupt, fmt::format("'{}' has a file '{}' by now, of which nothing was noted; `hearth "
                                                    "pull` gets it",
                                                    note.source, file.name));
        if (noted->sha256.empty()) continue;
        if (file.sha256.empty()) file.sha256 = noted->sha256;
        if (file.sha256 != noted->sha256)
            return Error(
                Code::corrupt,
                fmt::format("'{}' has another version of '{}' by now: SHA-256 {}, it was {}; `hearth pull` gets "
                            "that one",
                            note.source, file.name, file.sha256, noted->sha256));
    }
    return ok();
}

Result<Pulled> import_local(LocalReference const& reference, std::string const& name, std::string const& folder) {
    HEARTH_TRY(auto local, plan_local(reference.path));
    auto& [plan, parts] = local;
    std::error_code failed;
    plan.source = fs::absolute(reference.path, failed).string();
    if (!name.empty()) HEARTH_CHECK(rename(plan, name));
    HEARTH_CHECK(make_folders(folder, plan));
    Pulled pulled;
    pulled.model = plan.model;
    pulled.source = plan.source;
    for (auto i = parts.size(); i-- > 0;) {
        PulledFile file;
        file.path = folder + "/" + plan.files[i].name;
        HEARTH_CHECK(place(parts[i], file.path));
        file.size = fs::file_size(file.path, failed);
        pulled.files.insert(pulled.files.begin(), std::move(file));
    }
    return pulled;
}

}  // namespace hearth::fetch
