#include "catalog/layouts.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
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
#include "digest/sha256.h"
#include "fetch/sources/note.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kOllamaHost = "registry.ollama.ai";
constexpr std::string_view kOllamaSpace = "library";
constexpr std::string_view kConfig = "config.json";

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
            folders(root);
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
        if (auto const target = real.filename().string(); digest::is_sha256(target)) record(file, target);
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
            auto const* const noted = note->find(fs::path(file.path).lexically_relative(root).generic_string());
            if (noted != nullptr && digest::is_sha256(noted->sha256)) record(file, noted->sha256);
        }
    }

    // --- folders of safetensors ---

    // Its files but config.json; of folders inside, which hold a part's config, that one.
    std::vector<fs::path> files_of_folder(fs::path const& folder) {
        std::vector<fs::path> paths;
        for (auto const& path : entries(folder)) {
            std::error_code failed;
            if (fs::is_directory(fs::symlink_status(path, failed))) {
                if (fs::exists(path / kConfig, failed)) paths.push_back(path / kConfig);
            } else if (auto const name = path.filename().string(); name != kConfig && is_of_folder(name)) {
                paths.push_back(path);
            }
        }
        return paths;
    }

    // A model if it has what conversion opens. Nothing where it is none, or is refused.
    std::optional<Found> safetensors(fs::path const& folder, Layout layout, std::string name, std::string source) {
        std::error_code failed;
        bool const weights = fs::exists(folder / "model.safetensors", failed) ||
                             fs::exists(folder / "model.safetensors.index.json", failed);
        if (!weights || !fs::exists(folder / kConfig, failed)) return std::nullopt;
        Found found{.name = std::move(name),
                    .layout = layout,
                    .source = std::move(source),
                    .files = {},
                    .options = {},
                    .system = {}};
        auto paths = files_of_folder(folder);
        paths.insert(paths.begin(), folder / kConfig);
        if (paths.size() > kFolderFilesMax) {
            refuse(folder, fmt::format("has {} files of a model, the limit is {}", paths.size(), kFolderFilesMax));
            return std::nullopt;
        }
        for (auto const& path : paths) {
            auto file = file_at(path);
            if (!file) {
                refuse(path, file.error().message);
                return std::nullopt;
            }
            found.files.push_back(std::move(file).value());
        }
        return found;
    }

    // --- folders in folders: plain ones, and LM Studio's ---

    // Which other layouts have for themselves.
    static bool is_plain_folder(std::string const& name) {
        constexpr std::array<std::string_view, 3> kOthers{"manifests", "blobs", "hub"};
        return is_name_part(name) && !name.starts_with("models--") && std::ranges::find(kOthers, name) == kOthers.end();
    }

    void folders(fs::path const& root) {
        for (auto const& folder : folders_in(root)) {
            auto const name = folder.filename().string();
            if (!is_plain_folder(name)) continue;
            if (auto found = safetensors(folder, Layout::folder, name, "")) {
                read_pull(root.string(), *found);
                add(*found);
            }
            gguf_files(folder, Layout::folder, "", [&](fs::path const& path) {
                return fmt::format("{}/{}", name, models::model_id(path.string()));
            });
            for (auto const& repository : folders_in(folder)) lm_studio(name, repository);
        }
    }

    void lm_studio(std::string const& publisher, fs::path const& repository) {
        auto const what = repository.filename().string();
        if (!is_name_part(what)) return;
        auto const full = fmt::format("{}/{}", publisher, what);
        auto const source = "hf.co/" + full;
        if (auto const found = safetensors(repository, Layout::lm_studio, full, source)) add(*found);
        repository_files(repository, Layout::lm_studio, full, source);
    }

    // The *.gguf files of a repository and of the folders in it, one for each quantisation.
    void repository_files(fs::path const& folder, Layout layout, std::string const& name, std::string const& source) {
        auto const name_of = [&](fs::path const& path) {
            return fmt::format("{}:{}", name, models::model_id(path.string()));
        };
        gguf_files(folder, layout, source, name_of);
        for (auto const& inside : folders_in(folder)) gguf_files(inside, layout, source, name_of);
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
            for (auto const& [ref, commit] : revisions(repository)) {
                auto const named = ref.empty() ? full : fmt::format("{}@{}", full, ref);
                auto const source = fmt::format("{}@{}", full, commit);
                auto const snapshot = repository / "snapshots" / commit;
                if (auto const found = safetensors(snapshot, Layout::hugging_face, named, source)) add(*found);
                repository_files(snapshot, Layout::hugging_face, named, source);
            }
        }
    }

    struct Revision {
        std::string ref, commit;  // no ref: what the name means without one
    };

    // What `main` means, else the only revision there is; and what other refs mean, where that is another one.
    std::vector<Revision> revisions(fs::path const& repository) {
        std::vector<Revision> out;
        auto const refs = repository / "refs";
        auto const take = [&](std::string const& ref, fs::path const& path) {
            auto const commit = small_file(path, kNamePartMax);
            bool const fits = commit && is_name_part(*commit) && out.size() < kRevisionsMax;
            if (fits && std::ranges::find(out, *commit, &Revision::commit) == out.end()) out.push_back({ref, *commit});
        };
        take("", refs / "main");
        auto const snapshots = out.empty() ? entries(repository / "snapshots") : std::vector<fs::path>();
        if (snapshots.size() == 1) out.push_back({"", snapshots[0].filename().string()});
        for (auto const& path : entries(refs)) {
            auto const ref = path.filename().string();
            std::error_code failed;
            if (ref != "main" && is_name_part(ref) && fs::is_regular_file(path, failed)) take(ref, path);
        }
        return out;
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
        if (kind == "projector")
            found.problem = "it has a projector, which reads images for it, and images cannot be read yet";
        bool const adapter = kind == "adapter";
        if (kind != "model" && !adapter && small == nullptr) return ok();
        if (!digest.starts_with(kAlgorithm) || !digest::is_sha256(std::string_view(digest).substr(kAlgorithm.size())))
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
        if (adapter) {
            found.adapters.push_back(file->path);
            return ok();
        }
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

// What is published as `consolidated` are the same weights as those beside it.
bool is_of_folder(std::string_view name) {
    constexpr std::array<std::string_view, 6> kEndings{".json", ".safetensors", ".model", ".jinja", ".txt", ".md"};
    return !name.starts_with('.') && !name.starts_with("consolidated") &&
           std::ranges::any_of(kEndings, [&](std::string_view ending) { return name.ends_with(ending); });
}

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

bool is_folder(std::vector<ModelFile> const& files) {
    return !files.empty() && fs::path(files.front().path).filename() == kConfig;
}

std::string served_from(std::vector<ModelFile> const& files) {
    auto const& first = files.front().path;
    return is_folder(files) ? fs::path(first).parent_path().string() : first;
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
