#include "fetch/sources/note.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fetch/sources/reference.h"
#include "fetch/whole_file.h"
#include "names/names.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kNoteBytesMax = 16U << 20;

std::string text_of(nlohmann::json const& object, char const* name) {
    auto const at = object.find(name);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

}  // namespace

std::string note_path(std::string const& folder, std::string const& model) {
    return fmt::format("{}/{}.hearth.json", folder, names::to_file_stem(model));
}

NotedFile const* Note::find(std::string const& name) const {
    auto const at = std::ranges::find(files, name, &NotedFile::name);
    return at == files.end() ? nullptr : &*at;
}

std::optional<Note> read_note(std::string const& folder, std::string const& model) {
    // Every model of a scan is asked for one, and most have none.
    auto const path = note_path(folder, model);
    std::error_code failed;
    auto const bytes = std::filesystem::file_size(path, failed);
    if (failed || bytes > kNoteBytesMax) return std::nullopt;
    std::ifstream file(path, std::ios::binary);
    std::string text(static_cast<std::size_t>(bytes), '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    auto const root = nlohmann::json::parse(text, nullptr, false);
    if (!root.is_object() || !root.contains("files") || !root["files"].is_array()) return std::nullopt;
    Note note;
    note.source = text_of(root, "source");
    note.revision = text_of(root, "revision");
    for (auto const& entry : root["files"]) {
        if (!entry.is_object()) return std::nullopt;
        auto const size = entry.find("size");
        if (size == entry.end() || !size->is_number_unsigned()) return std::nullopt;
        note.files.push_back(
            {text_of(entry, "name"), size->get<std::uint64_t>(), text_of(entry, "sha256"), text_of(entry, "etag")});
    }
    auto const adapters = root.find("adapters");
    if (adapters == root.end() || !adapters->is_array()) return note;
    for (auto const& entry : *adapters) {
        auto name = entry.is_object() ? text_of(entry, "file") : std::string();
        if (is_file_name(name)) note.adapters.push_back(std::move(name));
    }
    return note;
}

Status write_note(std::string const& folder, std::string const& model, Note const& note) {
    nlohmann::ordered_json files = nlohmann::ordered_json::array();
    for (auto const& file : note.files) {
        nlohmann::ordered_json const entry = {
            {"name", file.name}, {"size", file.size}, {"sha256", file.sha256}, {"etag", file.etag}};
        files.push_back(entry);
    }
    nlohmann::ordered_json root = {{"source", note.source}, {"revision", note.revision}, {"files", files}};
    for (auto const& [kind, text] : note.notes) root[kind] = text;
    for (auto const& name : note.adapters) root["adapters"].push_back({{"file", name}, {"scale", 1}});
    // A registry's texts may hold bytes that are not UTF-8.
    auto const text = root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    return write_whole(note_path(folder, model), text, Readers::everybody);
}

void remove_note(std::string const& folder, std::string const& model) {
    std::error_code failed;
    std::filesystem::remove(note_path(folder, model), failed);
}

}  // namespace hearth::fetch
