#include "library/folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/ascii.h"
#include "catalog/imported.h"
#include "catalog/layouts.h"
#include "modelfile/definition.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using Place = FolderWatch::Place;

constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_DELETE_SELF;
// Who cuts a file short need not open it.
constexpr std::uint32_t kModelEvents = kEvents | IN_MODIFY;

// Where links to folders are followed: as the catalog does.
struct Inside {
    Place place;
    bool follows;
};

// What the folder `name` in a place is; none where no models are looked for.
std::optional<Inside> inside(Place place, std::string_view name) {
    bool const repository = name.starts_with("models--");
    switch (place) {
        case Place::root:
            if (name == "manifests") return Inside{Place::manifests, true};
            if (name == "blobs") return Inside{Place::blobs, true};
            if (name == "hub") return Inside{Place::hub, true};
            if (repository) return Inside{Place::repository, true};
            return name.starts_with('.') ? std::nullopt : std::optional(Inside{Place::outer, false});
        case Place::hub: return repository ? std::optional(Inside{Place::repository, true}) : std::nullopt;
        case Place::outer: return name.starts_with('.') ? std::nullopt : std::optional(Inside{Place::middle, false});
        case Place::repository:
            if (name == "refs") return Inside{Place::refs, true};
            if (name == "snapshots") return Inside{Place::snapshots, true};
            return name == "blobs" ? std::optional(Inside{Place::blobs, true}) : std::nullopt;
        case Place::snapshots: return Inside{Place::snapshot, true};
        case Place::middle:
        case Place::snapshot: return name.starts_with('.') ? std::nullopt : std::optional(Inside{Place::inner, false});
        case Place::manifests: return Inside{Place::host, true};
        case Place::host: return Inside{Place::space, true};
        case Place::space: return Inside{Place::tags, true};
        default: return std::nullopt;
    }
}

bool is_hex(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return hex_digit(c) >= 0; });
}

// sha256-HEX of Ollama; of Hugging Face's cache the SHA-256, or git's SHA-1 of small files. What is on its
// way there has more to its name.
bool is_blob(std::string_view name) {
    constexpr std::string_view kPrefix = "sha256-";
    constexpr std::size_t kSha256Digits = 64, kSha1Digits = 40;
    bool const ollama = name.starts_with(kPrefix);
    if (ollama) name.remove_prefix(kPrefix.size());
    return is_hex(name) && (name.size() == kSha256Digits || (!ollama && name.size() == kSha1Digits));
}

// NAME.lora-N
bool is_adapter(std::string_view name) {
    constexpr std::string_view kEnding = ".lora-";
    auto const at = name.rfind(kEnding);
    if (at == std::string_view::npos) return false;
    auto const number = name.substr(at + kEnding.size());
    return !number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_of_model(std::string_view name) {
    return ascii_lower(name).ends_with(".gguf") || name.ends_with(modelfile::kDefinitionSuffix) || is_adapter(name);
}

bool concerns_models(Place place, std::string_view name) {
    switch (place) {
        case Place::lists: return name == catalog::kImportedFile;
        case Place::blobs: return is_blob(name);
        // Called as whoever named them pleased.
        case Place::refs:
        case Place::tags: return !name.empty() && !name.starts_with('.');
        case Place::outer:
        case Place::middle:
        case Place::inner:
        case Place::snapshot: return is_of_model(name) || catalog::is_of_folder(name);
        default: return is_of_model(name) || name == catalog::kImportedFile;
    }
}

}  // namespace

FolderWatch::FolderWatch(std::vector<std::string> const& folders, std::string lists)
    : lists_(std::move(lists)), fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    renew(folders);
}

FolderWatch::~FolderWatch() {
    if (fd_ >= 0) ::close(fd_);
}

bool FolderWatch::add(std::string const& folder, Place place) {
    if (watched_.size() >= kWatchesMax) return false;
    auto const events = place == Place::lists ? kEvents : kModelEvents;
    int const number = ::inotify_add_watch(fd_, folder.c_str(), events | IN_ONLYDIR);
    if (number < 0) return true;
    // Watching one folder again is the same watch. What it is as a models folder says more.
    auto const [at, is_new] = watched_.try_emplace(number, place);
    if (!is_new && at->second == Place::lists) at->second = place;
    return true;
}

void FolderWatch::renew(std::vector<std::string> const& folders) {
    if (fd_ < 0) return;
    auto const before = std::exchange(watched_, {});
    if (!lists_.empty()) static_cast<void>(add(lists_, Place::lists));
    std::vector<std::pair<fs::path, Place>> level;
    level.reserve(folders.size());
    for (auto const& folder : folders) level.emplace_back(folder, Place::root);
    for (auto const& [folder, place] : level) static_cast<void>(add(folder.string(), place));
    // A level after the other: whichever are too many are the deepest.
    while (!level.empty()) {
        std::vector<std::pair<fs::path, Place>> next;
        for (auto const& [folder, place] : level) {
            std::error_code failed;
            for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
                std::error_code unknown;
                auto const found = inside(place, it->path().filename().string());
                if (!found || (!found->follows && it->is_symlink(unknown)) || !it->is_directory(unknown)) continue;
                if (!add(it->path().string(), found->place)) break;
                next.emplace_back(it->path(), found->place);
            }
        }
        if (watched_.size() >= kWatchesMax) break;
        level = std::move(next);
    }
    for (auto const& [number, place] : before)
        if (!watched_.contains(number)) static_cast<void>(::inotify_rm_watch(fd_, number));
}

bool FolderWatch::changed() const {
    alignas(inotify_event) std::array<char, 16'384> buffer;
    bool due = false;
    for (;;) {
        auto const got = fd_ < 0 ? -1 : ::read(fd_, buffer.data(), buffer.size());
        if (got <= 0) return due;
        for (char const* at = buffer.data(); at < buffer.data() + got;) {
            auto const& event = *reinterpret_cast<inotify_event const*>(at);
            at += sizeof(inotify_event) + event.len;
            auto const name = event.len > 0 ? std::string_view(event.name) : std::string_view();
            auto const place = watched_.find(event.wd);
            bool const folder = (event.mask & (IN_Q_OVERFLOW | IN_ISDIR | IN_DELETE_SELF)) != 0;
            // A link appears whole by IN_CREATE; a file that is being written says IN_CLOSE_WRITE later, too.
            due = due || folder || (place != watched_.end() && concerns_models(place->second, name));
        }
    }
}

}  // namespace hearth::library
