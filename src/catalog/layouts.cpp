#include "catalog/layouts.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "base/result.h"
#include "base/utf8.h"
#include "fetch/sources/note.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kOllamaHost = "registry.ollama.ai";
constexpr std::string_view kOllamaSpace = "library";
constexpr std::size_t kDigestDigits = 64;

bool is_digest(std::string_view text) {
    return text.size() == kDigestDigits &&
           std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// A part of a model's name: neither "." nor "..", nothing that means something in a path or to a terminal.
bool is_name_part(std::string_view text) {
    auto const letter = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    return !text.empty() && text.size() <= kNamePartMax && letter(text.front()) &&
           std::ranges::all_of(text, [&](char c) { return letter(c) || c == '-' || c == '.' || c == ':'; });
}

// A file's own name is shown as it is, so it must be fit to be shown.
bool is_file_name(std::string_view text) {
    return !text.empty() && text.size() <= kNamePartMax && is_valid_utf8(text) &&
           std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

class Finder {
public:
    explicit Finder(std::vector<std::string> const& folders) {
        for (auto const& folder : folders) {
            std::error_code failed;
            auto root = fs::canonical(folder, failed);
            if (!failed && fs::is_directory(root, failed)) roots_.push_back(std::move(root));
        }
    }

    Findings run() && {
        for (auto const& root : roots_) {
            plain(root);
            ollama(root);
            hugging_face(root);
            hugging_face(root / "hub");
            lm_studio(root);
        }
        for (auto& [name, found] : found_) findings_.models.push_back(std::move(found));
        return std::move(findings_);
    }

private:
    // The entries of a folder, sorted; none if it is not there.
    std::vector<fs::path> entries(fs::path const& folder) {
        std::vector<fs::path> paths;
        std::error_code failed;
        for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
            if (++seen_ > kEntriesMax) {
                if (seen_ == kEntriesMax + 1)
                    refuse(folder, fmt::format("more than {} entries; the rest is not looked at", kEntriesMax));
                break;
            }
            paths.push_back(it->path());
        }
        std::ranges::sort(paths);
        return paths;
    }

    void refuse(fs::path const& path, std::string why) { findings_.refused.push_back({path.string(), std::move(why)}); }

    // The first folder's counts, as where a name is looked up.
    void add(Found const& found) { found_.try_emplace(found.name, found); }

    static void record(ModelFile& file, std::string sha256) {
        file.sha256 = std::move(sha256);
        file.recorded = true;
    }

    // A regular file that does not lie outside the folders, wherever links lead.
    Result<ModelFile> file_at(fs::path const& path) const {
        std::error_code failed;
        auto const real = fs::canonical(path, failed);
        if (failed) return Error(Code::not_found, failed.message());
        bool const inside = std::ranges::any_of(roots_, [&](fs::path const& root) {
            return std::mismatch(root.begin(), root.end(), real.begin(), real.end()).first == root.end();
        });
        if (!inside)
            return Error(Code::invalid_argument, fmt::format("links to {}, outside the folders", real.string()));
        HEARTH_TRY(auto file, look_at(real.string()));
        file.path = path.string();
        if (auto const target = real.filename().string(); is_digest(target)) record(file, target);
        return file;
    }

    // The *.gguf files of one folder; the splits of one model are one.
    template <typename Name>
    void gguf_files(fs::path const& folder, Layout layout, std::string const& source, Name const& name_of) {
        for (auto const& path : entries(folder)) {
            if (ascii_lower(path.extension().string()) != ".gguf") continue;
            auto const split = models::parse_split_name(path.string());
            if (split && split->number > 1) continue;
            // What turns images into vectors for another file; it is no model of its own there.
            if (layout == Layout::lm_studio && path.filename().string().starts_with("mmproj")) continue;
            if (!is_file_name(path.filename().string())) {
                refuse(folder, "a file's name has control characters, is no UTF-8 or is too long");
                continue;
            }
            Found found{
                .name = name_of(path), .layout = layout, .source = source, .files = {}, .options = {}, .system = {}};
            for (std::uint32_t i = 1; i <= (split ? split->count : 1); ++i) {
                fs::path const part = split ? models::split_path(split->prefix, i, split->count) : path.string();
                auto file = file_at(part);
                if (!file) {
                    refuse(part, file.error().message);
                    found.files.clear();
                    break;
                }
                found.files.push_back(std::move(file).value());
            }
            if (!found.files.empty()) add(found);
        }
    }

    void plain(fs::path const& root) {
        gguf_files(root, Layout::folder, "", [](fs::path const& path) { return models::model_id(path.string()); });
        for (auto& [name, found] : found_) {
            bool const here = found.layout == Layout::folder && fs::path(found.files[0].path).parent_path() == root;
            if (here) read_pull(root.string(), found);
        }
    }

    // What its pull says of a plain model.
    static void read_pull(std::string const& root, Found& found) {
        auto const note = fetch::read_note(root, found.name);
        if (!note) return;
        found.source = note->source;
        for (auto& file : found.files) {
            auto const* const noted = note->find(fs::path(file.path).filename().string());
            if (noted != nullptr && is_digest(noted->sha256)) record(file, noted->sha256);
        }
    }

    // --- Hugging Face ---

    void hugging_face(fs::path const& hub) {
        constexpr std::string_view kPrefix = "models--";
        for (auto const& repository : entries(hub)) {
            auto const folder = repository.filename().string();
            if (!folder.starts_with(kPrefix)) continue;
            auto const rest = std::string_view(folder).substr(kPrefix.size());
            auto const dashes = rest.find("--");
            auto const organisation = rest.substr(0, dashes);
            auto const name = dashes == std::string_view::npos ? std::string_view() : rest.substr(dashes + 2);
            if (!is_name_part(organisation) || !is_name_part(name)) {
                refuse(hub, "a repository's folder is not called models--ORGANISATION--NAME");
                continue;
            }
            auto const full = fmt::format("hf.co/{}/{}", organisation, name);
            auto const revision = chosen_revision(repository);
            if (revision.empty()) continue;
            gguf_files(
                repository / "snapshots" / revision, Layout::hugging_face, fmt::format("{}@{}", full, revision),
                [&](fs::path const& path) { return fmt::format("{}:{}", full, models::model_id(path.string())); });
        }
    }

    // What `main` means, else the only revision there is.
    std::string chosen_revision(fs::path const& repository) {
        auto const main = small_file(repository / "refs/main", kNamePartMax);
        if (main && is_name_part(*main)) return *main;
        auto const snapshots = entries(repository / "snapshots");
        return snapshots.size() == 1 ? snapshots[0].filename().string() : std::string();
    }

    // --- LM Studio ---

    void lm_studio(fs::path const& root) {
        for (auto const& publisher : folders_in(root)) {
            auto const who = publisher.filename().string();
            if (!is_name_part(who)) continue;
            for (auto const& repository : folders_in(publisher)) {
                auto const what = repository.filename().string();
                if (!is_name_part(what)) continue;
                gguf_files(repository, Layout::lm_studio, fmt::format("hf.co/{}/{}", who, what),
                           [&](fs::path const& path) {
                               return fmt::format("{}/{}:{}", who, what, models::model_id(path.string()));
                           });
            }
        }
    }

    // Links are not followed here: they may lead round in circles.
    std::vector<fs::path> folders_in(fs::path const& folder) {
        auto paths = entries(folder);
        std::erase_if(paths, [](fs::path const& path) {
            std::error_code failed;
            return !fs::is_directory(fs::symlink_status(path, failed));
        });
        return paths;
    }

    // --- Ollama ---

    void ollama(fs::path const& root) {
        for (auto const& host : entries(root / "manifests")) {
            for (auto const& space : entries(host)) {
                for (auto const& model : entries(space)) {
                    for (auto const& tag : entries(model)) manifest(root, tag);
                }
            }
        }
    }

    void manifest(fs::path const& root, fs::path const& path) {
        std::vector<std::string> parts;
        for (auto const& part : path.lexically_relative(root / "manifests")) parts.push_back(part.string());
        if (parts.size() != 4 || !std::ranges::all_of(parts, is_name_part)) {
            refuse(root / "manifests", "a manifest's path is no HOST/NAMESPACE/MODEL/TAG");
            return;
        }
        Found found;
        found.layout = Layout::ollama;
        found.name = fmt::format("{}:{}", parts[2], parts[3]);
        if (parts[0] != kOllamaHost || parts[1] != kOllamaSpace)
            found.name = fmt::format("{}/{}", parts[1], found.name);
        if (parts[0] != kOllamaHost) found.name = fmt::format("{}/{}", parts[0], found.name);
        found.source = fmt::format("{}/{}/{}:{}", parts[0], parts[1], parts[2], parts[3]);
        if (auto const read = layers(root, path, found); !read) return refuse(path, read.error().message);
        if (!found.files.empty()) add(found);
    }

    Status layers(fs::path const& root, fs::path const& path, Found& found) {
        HEARTH_TRY(auto const text, small_file(path, kManifestMax));
        auto const json = Json::parse(text, nullptr, false);
        if (!json.is_object() || !json.contains("layers") || !json["layers"].is_array())
            return Error(Code::corrupt, "is no manifest: not a JSON object with layers");
        auto const& layers = json["layers"];
        if (layers.size() > kLayersMax)
            return Error(Code::too_large, fmt::format("has {} layers, at most {} are read", layers.size(), kLayersMax));
        for (auto const& layer : layers) HEARTH_CHECK(this->layer(root, layer, found));
        return ok();
    }

    // Where the text of a layer of this kind goes; null for other kinds.
    static std::string* text_of(std::string_view kind, Found& found) {
        if (kind == "system") return &found.system;
        if (kind == "params") return &found.options;
        if (kind == "template") return &found.template_text;
        if (kind == "license") return &found.license;
        return kind == "messages" ? &found.messages : nullptr;
    }

    Status layer(fs::path const& root, Json const& layer, Found& found) {
        auto const text = [&](char const* key) {
            return layer.is_object() && layer.contains(key) && layer[key].is_string() ? layer[key].get<std::string>()
                                                                                      : std::string();
        };
        auto const type = text("mediaType"), digest = text("digest");
        constexpr std::string_view kTypes = "application/vnd.ollama.image.", kAlgorithm = "sha256:";
        if (!type.starts_with(kTypes)) return ok();
        auto const kind = std::string_view(type).substr(kTypes.size());
        auto* const small = text_of(kind, found);
        if (kind != "model" && small == nullptr) return ok();
        if (!digest.starts_with(kAlgorithm) || !is_digest(std::string_view(digest).substr(kAlgorithm.size())))
            return Error(Code::corrupt, "a layer's digest is no sha256:HEX");
        auto const hex = digest.substr(kAlgorithm.size());
        auto const blob = root / "blobs" / ("sha256-" + hex);
        if (small != nullptr) {
            HEARTH_TRY(*small, small_file(blob, kSmallLayerMax));
            return ok();
        }
        auto file = file_at(blob);
        if (!file) return Error(file.error().code, fmt::format("blob {}: {}", hex, file.error().message));
        if (!layer.contains("size") || !layer["size"].is_number_unsigned() || layer["size"] != file->bytes)
            return Error(Code::corrupt,
                         fmt::format("blob {} has {} bytes, the manifest says otherwise", hex, file->bytes));
        record(*file, hex);
        found.files.push_back(std::move(file).value());
        return ok();
    }

    Result<std::string> small_file(fs::path const& path, std::size_t bytes_max) const {
        HEARTH_TRY(auto const file, file_at(path));
        if (file.bytes > bytes_max)
            return Error(Code::too_large, fmt::format("has {} bytes, at most {} are read", file.bytes, bytes_max));
        std::string text(static_cast<std::size_t>(file.bytes), '\0');
        std::ifstream in(path, std::ios::binary);
        if (!in.read(text.data(), static_cast<std::streamsize>(text.size()))) return Error(Code::io, "cannot be read");
        while (text.ends_with('\n')) text.pop_back();
        return text;
    }

    std::vector<fs::path> roots_;  // canonical
    std::size_t seen_ = 0;
    std::map<std::string, Found> found_;
    Findings findings_;
};

}  // namespace

std::string_view to_string(Layout layout) noexcept {
    switch (layout) {
        case Layout::folder: return "folder";
        case Layout::ollama: return "ollama";
        case Layout::hugging_face: return "hugging_face";
        case Layout::lm_studio: return "lm_studio";
    }
    return "folder";
}

bool is_same_file(ModelFile const& a, ModelFile const& b) {
    bool const same_inode = a.inode == b.inode || a.inode == 0 || b.inode == 0;
    return a.path == b.path && a.bytes == b.bytes && a.modified_ns == b.modified_ns && same_inode;
}

bool are_same_files(std::vector<ModelFile> const& a, std::vector<ModelFile> const& b) {
    return std::ranges::equal(a, b, is_same_file);
}

Result<ModelFile> look_at(std::string const& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0)
        return Error(errno == ENOENT || errno == ENOTDIR ? Code::not_found : Code::io, std::strerror(errno), path);
    if (!S_ISREG(info.st_mode)) return Error(Code::io, "is no regular file", path);
    ModelFile file;
    file.path = path;
    file.bytes = static_cast<std::uint64_t>(info.st_size);
    file.modified_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
    file.inode = info.st_ino;
    return file;
}

Findings find_models(std::vector<std::string> const& folders) { return Finder(folders).run(); }

}  // namespace hearth::catalog
