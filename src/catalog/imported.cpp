#include "catalog/imported.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include "fetch/whole_file.h"

namespace hearth::catalog {
namespace {

std::string path_of(std::string const& data_folder) { return fmt::format("{}/{}", data_folder, kImportedFile); }

bool is_path(std::string_view text) {
    return text.starts_with('/') && text.size() <= kImportedPathMax && text.find('\n') == std::string_view::npos;
}

}  // namespace

std::vector<std::string> imported_folders(std::string const& data_folder) {
    std::vector<std::string> folders;
    if (data_folder.empty()) return folders;
    std::ifstream file(path_of(data_folder), std::ios::binary);
    std::string text(kImportedMax * (kImportedPathMax + 1), '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
    for (std::size_t at = 0; at < text.size() && folders.size() < kImportedMax;) {
        auto const end = std::min(text.find('\n', at), text.size());
        auto line = text.substr(at, end - at);
        if (is_path(line)) folders.push_back(std::move(line));
        at = end + 1;
    }
    return folders;
}

Status set_imported_folders(std::string const& data_folder, std::vector<std::string> const& folders) {
    if (folders.size() > kImportedMax)
        return Error(Code::too_large,
                     fmt::format("{} folders would be imported, the limit is {}", folders.size(), kImportedMax));
    std::string text;
    for (auto const& folder : folders) {
        if (!is_path(folder))
            return Error(Code::invalid_argument, fmt::format("'{}' is no absolute path of at most {} bytes on one line",
                                                             folder.substr(0, 256), kImportedPathMax));
        text += folder + '\n';
    }
    std::error_code failed;
    std::filesystem::create_directories(data_folder, failed);
    return fetch::write_whole(path_of(data_folder), text);
}

}  // namespace hearth::catalog
