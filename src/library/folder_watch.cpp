#include "library/folder_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/ascii.h"
#include "catalog/imported.h"
#include "modelfile/definition.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_DELETE_SELF;
// Who cuts a file short need not open it.
constexpr std::uint32_t kModelEvents = kEvents | IN_MODIFY;

bool concerns_models(inotify_event const& event, std::string_view name) {
    if ((event.mask & (IN_Q_OVERFLOW | IN_ISDIR | IN_DELETE_SELF)) != 0) return true;
    // A link appears whole by IN_CREATE; a file that is being written says IN_CLOSE_WRITE later, too.
    return name == catalog::kImportedFile || ascii_lower(name).ends_with(".gguf") ||
           name.ends_with(modelfile::kDefinitionSuffix);
}

}  // namespace

FolderWatch::FolderWatch(std::vector<std::string> const& folders, std::string lists)
    : lists_(std::move(lists)), fd_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    renew(folders);
}

FolderWatch::~FolderWatch() {
    if (fd_ >= 0) ::close(fd_);
}

void FolderWatch::add(std::string const& folder, std::uint32_t events, std::size_t& watches) const {
    // Watching one folder again is the same watch.
    if (watches < kWatchesMax && ::inotify_add_watch(fd_, folder.c_str(), events | IN_ONLYDIR) >= 0) ++watches;
}

void FolderWatch::renew(std::vector<std::string> const& folders) {
    if (fd_ < 0) return;
    std::size_t watches = 0;
    if (!lists_.empty()) add(lists_, kEvents, watches);
    for (auto const& folder : folders) add(folder, kModelEvents, watches);
    for (auto const& folder : folders) {
        std::error_code failed;
        for (fs::directory_iterator it(folder, failed), end; !failed && it != end && watches < kWatchesMax;
             it.increment(failed)) {
            std::error_code unknown;
            if (it->is_directory(unknown)) add(it->path().string(), kModelEvents, watches);
        }
    }
}

bool FolderWatch::changed() const {
    alignas(inotify_event) std::array<char, 16'384> buffer;
    bool due = false;
    for (;;) {
        auto const got = fd_ < 0 ? -1 : ::read(fd_, buffer.data(), buffer.size());
        if (got <= 0) return due;
        for (char const* at = buffer.data(); at < buffer.data() + got;) {
            auto const& event = *reinterpret_cast<inotify_event const*>(at);
            due = due || concerns_models(event, event.len > 0 ? std::string_view(event.name) : std::string_view());
            at += sizeof(inotify_event) + event.len;
        }
    }
}

}  // namespace hearth::library
