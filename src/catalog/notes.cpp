#include "catalog/notes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
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

// `made` gets its final name once it is on the medium.
Status settle(std::string const& made, std::string const& path) {
    int const file = ::open(made.c_str(), O_RDONLY | O_CLOEXEC);
    bool const synced = file >= 0 && ::fsync(file) == 0;
    std::error_code failed;
    if (!synced) failed = std::error_code(errno, std::generic_category());
    else fs::rename(made, path, failed);
    if (file >= 0) ::close(file);
    if (!failed) return fetch::sync_folder_of(path);
    std::error_code ignored;
    fs::remove(made, ignored);
    return disk_error("write", path, failed);
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

// A link, or a copy where there can be none.
Status place(fs::path const& from, std::string const& path) {
    std::error_code failed;
    if (fs::equivalent(from, path, failed)) return ok();
    auto const made = path + ".new";
    fs::remove(made, failed);
    auto const real = fs::canonical(from, failed);
    if (failed) return disk_error("read", from.string(), failed);
    fs::create_hard_link(real, made, failed);
    if (failed) {
        auto const bytes = fs::file_size(real, failed);
        auto const room = fs::space(fs::path(path).parent_path(), failed).available;
        if (!failed && room < bytes)
            return Error(Code::exhausted, fmt::format("'{}' needs {} bytes, the disk has {} left",
                                                      fs::path(path).filename().string(), bytes, room));
        fs::copy_file(real, made, failed);
        if (failed) return disk_error("write", made, failed);
    }
    return settle(made, path);
}

Status place_definition(std::string const& folder, std::string const& model, modelfile::Definition definition) {
    auto const path = note_path(folder, model);
    HEARTH_TRY(auto const old, read_note(path));
    for (std::size_t i = 0; i < definition.adapters.size(); ++i) {
        auto& file = definition.adapters[i].file;
        auto const name = adapter_name(model, i + 1);
        HEARTH_CHECK(place(file, (fs::path(folder) / name).string()));
        file = name;
    }
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
