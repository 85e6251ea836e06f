#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/ascii.h"
#include "models/gguf.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::models {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kEntriesMax = 10'000;  // of one folder
constexpr std::size_t kListed = 20;          // names in an error

constexpr std::string_view kEnding = ".gguf";

bool ends_in_gguf(std::string_view name) { return ascii_lower(name).ends_with(kEnding); }

bool is_file(std::string const& path) {
    std::error_code failed;
    return fs::is_regular_file(path, failed);
}

// Upstream opens a split model by its first file.
std::string first_split(std::string const& path) {
    auto const name = parse_split_name(path);
    return name && name->number > 1 ? split_path(name->prefix, 1, name->count) : path;
}

bool is_later_split(std::string const& path) {
    auto const name = parse_split_name(path);
    return name && name->number > 1;
}

// Models of one folder, sorted; later splits are part of their first.
std::vector<std::string> models_in(std::string const& folder) {
    std::vector<std::string> found;
    std::error_code failed;
    std::size_t seen = 0;
    for (fs::directory_iterator it(folder, failed), end; !failed && it != end && seen < kEntriesMax;
         it.increment(failed), ++seen) {
        auto const path = it->path().string();
        if (ascii_lower(it->path().extension().string()) == ".gguf" && is_file(path) && !is_later_split(path))
            found.push_back(path);
    }
    std::sort(found.begin(), found.end());
    return found;
}

bool matches(std::string const& path, std::string const& name, bool exact) {
    auto const file = fs::path(path).filename().string();
    auto const id = model_id(path);
    if (exact) return file == name || id == name;
    return ascii_lower(file) == ascii_lower(name) || ascii_lower(id) == ascii_lower(name);
}

Result<std::string> missing(std::string const& name, std::vector<std::string> const& folders) {
    std::set<std::string> ids;
    std::string where;
    for (auto const& folder : folders) {
        for (auto const& path : models_in(folder)) ids.insert(model_id(path));
        where += (where.empty() ? "" : ", ") + folder;
    }
    auto message = fmt::format("no model '{}'", name);
    if (folders.empty()) message += ": no such file, and there is no folder to look in";
    if (!folders.empty() && ids.empty()) message += fmt::format(": no such file, and there are no models in {}", where);
    std::size_t listed = 0;
    for (auto const& id : ids) {
        if (listed == kListed) {
            message += fmt::format(" and {} more", ids.size() - listed);
            break;
        }
        message += listed++ == 0 ? fmt::format("; there are (in {}): {}", where, id) : fmt::format(", {}", id);
    }
    return Error(Code::not_found, message, "model");
}

}  // namespace

Result<std::string> resolve_model(std::string const& name_or_path, std::vector<std::string> const& folders) {
    if (name_or_path.empty()) return Error(Code::invalid_argument, "the model's name is empty", "model");
    if (is_file(name_or_path)) return first_split(name_or_path);
    if (name_or_path.find('/') != std::string::npos) {
        // A name may hold '/', too.
        bool const name = !name_or_path.starts_with('.') && !ends_in_gguf(name_or_path) &&
                          names::parse_model_name(name_or_path).has_value();
        std::error_code failed;
        bool const folder = fs::is_directory(name_or_path, failed);
        if (folder || !name)
            return Error(folder ? Code::invalid_argument : Code::not_found,
                         fmt::format("no model at '{}': {}", name_or_path,
                                     folder ? "it is a folder; name a file in it" : "no such file"),
                         "model");
    }
    for (auto const& folder : folders) {
        auto const models = models_in(folder);
        for (bool const exact : {true, false}) {
            std::vector<std::string> hits;
            std::copy_if(models.begin(), models.end(), std::back_inserter(hits),
                         [&](auto const& path) { return matches(path, name_or_path, exact); });
            if (hits.size() == 1) return hits[0];
            if (hits.size() > 1) {
                return Error(Code::invalid_argument,
                             fmt::format("'{}' means more than one model: {} and {}; give the path", name_or_path,
                                         hits[0], hits[1]),
                             "model");
            }
        }
    }
    return missing(name_or_path, folders);
}

std::string model_id(std::string const& path) {
    auto const split = parse_split_name(path);
    auto name = fs::path(split ? split->prefix : path).filename().string();
    if (!split && name.size() > kEnding.size() && ends_in_gguf(name)) name.resize(name.size() - kEnding.size());
    return names::from_file_stem(name);
}

}  // namespace hearth::models
