#include "catalog/notes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "catalog/create.h"
#include "fetch/whole_file.h"
#include "names/names.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kNew = ".new";

// What has its final name is on the medium, also what was only just written elsewhere.
Status sync_file(std::string const& path) {
    int const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    bool const synced = file >= 0 && ::fsync(file) == 0;
    std::error_code failed;
    if (!synced) failed = std::error_code(errno, std::generic_category());
    if (file >= 0) ::close(file);
    return failed ? Status(disk_error("write", path, failed)) : ok();
}

struct Copy {
    fs::path from;
    std::string made;
    std::uint64_t bytes = 0;
};

Status check_room(std::vector<Copy> const& copies) {
    if (copies.empty()) return ok();
    std::uint64_t bytes = 0;
    for (auto const& copy : copies) bytes += copy.bytes;
    fs::path const first(copies.front().made);
    std::error_code failed;
    auto const room = fs::space(first.parent_path(), failed).available;
    if (failed || room >= bytes) return ok();
    return Error(Code::exhausted,
                 fmt::format("'{}' needs {} bytes, the disk has {} left", first.stem().string(), bytes, room));
}

std::string adapter_name(std::string const& model, std::size_t number) {
    return fmt::format("{}.lora-{}", names::to_file_stem(model), number);
}

Status erase(fs::path const& path) {
    std::error_code failed;
    fs::remove(path, failed);
    return failed ? Status(disk_error("delete", path.string(), failed)) : ok();
}

// A note may name whatever lies beside it; the model's own is what adapter_name() called so.
bool is_own(std::string_view file, std::string const& model) {
    for (std::size_t number = 1; number <= modelfile::kAdaptersMax; ++number)
        if (file == adapter_name(model, number)) return true;
    return false;
}

// Files of adapters that a note of `model` named and the one in its place does not.
Status erase_adapters(fs::path const& folder, std::string const& model, std::vector<modelfile::Adapter> const& before,
                      std::vector<modelfile::Adapter> const& now) {
    std::set<std::string_view> kept;
    for (auto const& adapter : now) kept.insert(adapter.file);
    for (auto const& adapter : before)
        if (is_own(adapter.file, model) && !kept.contains(adapter.file)) HEARTH_CHECK(erase(folder / adapter.file));
    return ok();
}

}  // namespace

Error disk_error(std::string_view what, std::string const& path, std::error_code failed) {
    bool const full = failed == std::errc::no_space_on_device || failed.value() == EDQUOT;
    return {full ? Code::exhausted : Code::io, fmt::format("cannot {} '{}': {}", what, path, failed.message())};
}

std::string note_path(fs::path const& folder, std::string const& model) {
    return (folder / names::to_file_stem(model).append(modelfile::kDefinitionSuffix)).string();
}

Result<std::optional<modelfile::Definition>> read_note(std::string const& path) {
    std::error_code failed;
    auto const bytes = fs::file_size(path, failed);
    if (failed) return std::optional<modelfile::Definition>();
    if (bytes > modelfile::kDefinitionBytesMax)
        return Error(Code::corrupt,
                     fmt::format("'{}' has {} bytes, the limit is {}", path, bytes, modelfile::kDefinitionBytesMax));
    std::ifstream file(path, std::ios::binary);
    auto read = modelfile::read_definition({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
    if (!read) return Error(Code::corrupt, fmt::format("'{}': {}", path, read.error().message));
    return std::optional(*std::move(read));
}

Result<Arrivals> Arrivals::stage(std::vector<File> const& files) {
    Arrivals arrivals;
    HEARTH_CHECK(arrivals.link_or_copy(files));
    return arrivals;
}

Status Arrivals::link_or_copy(std::vector<File> const& files) {
    std::vector<Copy> copies;
    for (auto const& [from, path] : files) {
        std::error_code failed;
        if (fs::equivalent(from, path, failed)) continue;
        auto const made = path + std::string(kNew);
        fs::remove(made, failed);
        auto const real = fs::canonical(from, failed);
        if (failed) return disk_error("read", from.string(), failed);
        paths_.push_back(path);
        fs::create_hard_link(real, made, failed);
        if (!failed) continue;
        auto const bytes = fs::file_size(real, failed);
        copies.push_back({real, made, failed ? 0 : bytes});
    }
    HEARTH_CHECK(check_room(copies));
    for (auto const& copy : copies) {
        std::error_code failed;
        fs::copy_file(copy.from, copy.made, failed);
        if (failed) return disk_error("write", copy.made, failed);
    }
    for (auto const& path : paths_) HEARTH_CHECK(sync_file(path + std::string(kNew)));
    return ok();
}

Arrivals::~Arrivals() {
    std::error_code ignored;
    for (auto const& path : paths_) fs::remove(path + std::string(kNew), ignored);
}

Status Arrivals::settle() {
    for (; !paths_.empty(); paths_.pop_back()) {
        auto const& path = paths_.back();
        std::error_code failed;
        fs::rename(path + std::string(kNew), path, failed);
        if (failed) return disk_error("write", path, failed);
        HEARTH_CHECK(fetch::sync_folder_of(path));
    }
    return ok();
}

Status place_definition(std::string const& folder, std::string const& model, modelfile::Definition definition) {
    auto const path = note_path(folder, model);
    HEARTH_TRY(auto const old, read_note(path));
    std::vector<Arrivals::File> files;
    for (std::size_t i = 0; i < definition.adapters.size(); ++i) {
        auto& file = definition.adapters[i].file;
        auto name = adapter_name(model, i + 1);
        files.push_back({file, (fs::path(folder) / name).string()});
        file = std::move(name);
    }
    HEARTH_TRY(auto adapters, Arrivals::stage(files));
    HEARTH_CHECK(adapters.settle());
    HEARTH_CHECK(fetch::write_whole(path, modelfile::write_definition(definition), fetch::Readers::everybody));
    return old ? erase_adapters(folder, model, old->adapters, definition.adapters) : ok();
}

Status copy_definition(std::string const& folder, std::string const& from, std::string const& to) {
    HEARTH_TRY(auto note, read_note(note_path(folder, from)));
    if (!note) return ok();
    for (auto& adapter : note->adapters) adapter.file = (fs::path(folder) / adapter.file).string();
    // What was recorded of its files holds for their links.
    auto const stem = names::to_file_stem(from);
    for (auto& file : note->files)
        if (file.name.starts_with(stem)) file.name.replace(0, stem.size(), names::to_file_stem(to));
    return place_definition(folder, to, *std::move(note));
}

Status remove_definition(std::string const& folder, std::string const& model) {
    auto const path = note_path(folder, model);
    auto const note = read_note(path);
    // One that cannot be read names nothing.
    if (note && *note) HEARTH_CHECK(erase_adapters(folder, model, (*note)->adapters, {}));
    return erase(path);
}

}  // namespace hearth::catalog
