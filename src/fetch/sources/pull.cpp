#include "fetch/sources/pull.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "fetch/partial_file.h"
#include "fetch/sources/hub_files.h"
#include "fetch/sources/note.h"

namespace hearth::fetch {
namespace {

namespace fs = std::filesystem;

// FILE or FOLDER/FILE.
bool stays_inside(std::string const& name) {
    auto const slash = name.find('/');
    if (slash == std::string::npos) return is_file_name(name);
    return is_file_name(name.substr(0, slash)) && is_file_name(name.substr(slash + 1));
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

// All files together: better no file than all but one.
Status check_room(std::string const& folder, Plan const& plan) {
    std::uint64_t needed = 0;
    for (auto const& file : plan.files) {
        std::error_code missing;
        auto const path = folder + "/" + file.name;
        bool const begun = fs::exists(path, missing) || fs::exists(path + ".partial", missing);
        if (!begun) needed += file.size.value_or(0);
    }
    HEARTH_TRY(auto const free, free_bytes(folder + "/."));
    if (needed > free)
        return Error(Code::too_large,
                     fmt::format("no room for '{}': {} more bytes are needed, {} are free in {}", plan.model, needed,
                                 free, folder),
                     "disk");
    return ok();
}

// The files of one plan on their way; kFilesAtOnce coroutines take them in turn.
class Pull {
public:
    Pull(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder, PullListener listener)
        : loop_(loop),
          downloader_(downloader),
          plan_(std::move(plan)),
          folder_(std::move(folder)),
          listener_(std::move(listener)),
          ended_(loop) {}

    net::Task<Result<Pulled>> run() {
        if (plan_.files.empty() || plan_.files.size() > kPlanFilesMax)
            co_return Error(Code::invalid_argument,
                            fmt::format("a model of {} files, the limit is {}", plan_.files.size(), kPlanFilesMax));
        auto const made = make_folders(folder_, plan_);
        if (!made) co_return made.error();
        auto const room = check_room(folder_, plan_);
        if (!room) co_return room.error();
        known_ = read_note(folder_, plan_.model);
        if (known_ && known_->source != plan_.source) known_.reset();
        auto const noted = note_beginning();
        if (!noted) co_return noted.error();
        results_.resize(plan_.files.size());
        for (unsigned i = 0; i < kFilesAtOnce; ++i) {
            ++running_;
            loop_.spawn(take_files());
        }
        while (running_ > 0) co_await ended_.wait();
        if (!failure_) co_await fetch_one(0);
        if (failure_) {
            forget_beginning();
            co_return *failure_;
        }
        co_return finish();
    }

private:
    // Says whose the files will be before there are any, so that a set that was cut short is gone on with.
    // What lies there already was not pulled by us: Existing::keep looks after it.
    Status note_beginning() {
        std::error_code missing;
        auto const there = [&](PlannedFile const& file) { return fs::exists(folder_ + "/" + file.name, missing); };
        if (known_ || std::ranges::any_of(plan_.files, there)) return ok();
        known_ = Note{plan_.source, plan_.revision, {}, plan_.notes};
        began_ = true;
        return write_note(folder_, plan_.model, *known_);
    }

    // Nothing came, so nothing is to be gone on with.
    void forget_beginning() {
        std::error_code missing;
        auto const there = [&](PlannedFile const& file) {
            auto const path = folder_ + "/" + file.name;
            return fs::exists(path, missing) || fs::exists(path + ".partial", missing);
        };
        if (began_ && std::ranges::none_of(plan_.files, there)) remove_note(folder_, plan_.model);
    }

    net::Task<void> take_files() {
        while (!failure_ && next_ < plan_.files.size()) {
            auto const index = next_++;
            co_await fetch_one(index);
        }
        --running_;
        ended_.notify();
    }

    net::Task<void> fetch_one(std::size_t index) {
        auto const& file = plan_.files[index];
        FileRequest request;
        request.url = file.url;
        request.path = folder_ + "/" + file.name;
        request.authorization = file.authorization;
        request.sha256 = file.sha256;
        request.size = file.size;
        request.existing = known_ ? Existing::replace : Existing::keep;
        auto const* const known = known_ ? known_->find(file.name) : nullptr;
        if (known != nullptr) request.present_etag = known->etag;
        auto const listener = [this, index](FileProgress const& progress) {
            if (listener_) listener_(index, progress);
        };
        auto result = co_await downloader_.fetch(std::move(request), listener);
        if (!result) {
            if (!failure_) failure_ = result.error();
            downloader_.cancel_all();
            co_return;
        }
        if (result->present && known != nullptr) {
            if (result->sha256.empty()) result->sha256 = known->sha256;
            if (result->etag.empty()) result->etag = known->etag;
        }
        results_[index] = std::move(*result);
    }

    Result<Pulled> finish() {
        Note note{plan_.source, plan_.revision, {}, plan_.notes};
        Pulled pulled;
        pulled.model = plan_.model;
        pulled.source = plan_.source;
        pulled.revision = plan_.revision;
        for (std::size_t i = 0; i < results_.size(); ++i) {
            auto const& result = results_[i];
            note.files.push_back({plan_.files[i].name, result.size, result.sha256, result.etag});
            pulled.files.push_back({folder_ + "/" + plan_.files[i].name, result.size, result.sha256, result.present});
            pulled.fetched += result.fetched;
        }
        HEARTH_CHECK(write_note(folder_, plan_.model, note));
        return pulled;
    }

    net::Loop& loop_;
    Downloader& downloader_;
    Plan const plan_;
    std::string const folder_;
    PullListener const listener_;
    std::optional<Note> known_;
    std::vector<FileResult> results_;
    std::optional<Error> failure_;
    bool began_ = false;    // the note was not there before
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

Status place(std::string const& from, std::string const& to) {
    std::error_code failed;
    if (fs::exists(to, failed)) {
        if (fs::equivalent(from, to, failed)) return ok();
        return Error(Code::invalid_argument, fmt::format("'{}' is there already and is another file", to));
    }
    fs::create_hard_link(from, to, failed);
    if (!failed) return ok();
    // Another file system: a copy, whole under its name or absent.
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

}  // namespace

net::Task<Result<Pulled>> pull(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder,
                               PullListener listener) {
    Pull running(loop, downloader, std::move(plan), std::move(folder), std::move(listener));
    co_return co_await running.run();
}

bool is_being_fetched(std::string const& path) { return PartialFile::is_held(path); }

Status hold_to(Plan& plan, Note const& note) {
    plan.source = note.source;
    for (auto& file : plan.files) {
        auto const* const noted = note.find(file.name);
        if (noted == nullptr || noted->sha256.empty()) continue;
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
    std::error_code failed;
    if (!fs::is_regular_file(reference.path, failed))
        return Error(Code::not_found, fmt::format("'{}' is no file", reference.path), "name");
    if (!reference.path.ends_with(".gguf"))
        return Error(Code::invalid_argument, fmt::format("'{}' is no .gguf file", reference.path), "name");
    Plan plan;
    plan.model = gguf_stem(reference.path);
    plan.source = fs::absolute(reference.path, failed).string();
    auto const parts = parts_of(reference.path);
    for (auto const& part : parts) {
        PlannedFile file;
        file.name = fs::path(part).filename().string();
        plan.files.push_back(std::move(file));
    }
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
