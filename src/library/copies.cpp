#include "library/copies.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "library/disk.h"
#include "models/gguf.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

bool is_linked(fs::path const& from, fs::path const& to) {
    std::error_code failed;
    auto const real = fs::canonical(from, failed);
    if (!failed) fs::create_hard_link(real, to, failed);
    return !failed;
}

Status check_room(std::uint64_t bytes, std::string const& folder) {
    std::error_code failed;
    auto const room = fs::space(folder, failed).available;
    if (failed || room >= bytes) return ok();
    return Error(Code::exhausted, fmt::format("the model needs {} bytes, the disk has {} left", bytes, room));
}

}  // namespace

Result<std::vector<catalog::ModelFile>> files_at(std::string const& path) {
    auto const split = models::parse_split_name(path);
    std::vector<catalog::ModelFile> files;
    for (std::uint32_t i = 1; i <= (split ? split->count : 1); ++i) {
        HEARTH_TRY(auto file, catalog::look_at(split ? models::split_path(split->prefix, i, split->count) : path));
        files.push_back(std::move(file));
    }
    return files;
}

Result<bool> need_copies(std::vector<catalog::ModelFile> const& files, std::string const& folder) {
    std::error_code failed;
    fs::create_directories(folder, failed);
    HEARTH_TRY(auto const staging, StagingFolder::create(folder));
    fs::path const inside(staging.path());
    std::size_t linked = 0;
    while (linked < files.size() && is_linked(files[linked].path, inside / std::to_string(linked))) ++linked;
    if (linked == files.size()) return false;
    std::ofstream(inside / "own").close();
    return is_linked(inside / "own", inside / "link");
}

Result<Copies> make_copies(std::vector<catalog::ModelFile> files, std::string const& folder, CopyFile const& copy,
                           CopyWatch const& watch) {
    StagingFolder::remove_stale(folder);
    std::uint64_t total = 0, done = 0;
    for (auto const& file : files) total += file.bytes;
    HEARTH_CHECK(check_room(total, folder));
    HEARTH_TRY(auto staging, StagingFolder::create(folder));
    auto const place = [&](catalog::ModelFile const& file) {
        return (fs::path(staging.path()) / fs::path(file.path).filename()).string();
    };
    for (auto const& file : files) {
        auto const goes_on = [&](std::uint64_t bytes) { return watch(done + bytes, total); };
        auto copied = copy ? copy(file.path, place(file), goes_on) : copy_file(file.path, place(file), goes_on);
        if (!copied) {
            auto error = without_folder(std::move(copied).error(), staging.path());
            error.param.clear();
            return error;
        }
        done += file.bytes;
    }
    auto path = place(files.front());
    return Copies{std::move(files), std::move(path), std::move(staging)};
}

Status check_unchanged(std::vector<catalog::ModelFile> const& files) {
    for (auto const& file : files) {
        auto const now = catalog::look_at(file.path);
        if (now && catalog::is_same_file(*now, file)) continue;
        return Error(Code::unavailable, fmt::format("'{}' changed while it was copied; try again",
                                                    fs::path(file.path).filename().string()));
    }
    return ok();
}

}  // namespace hearth::library
