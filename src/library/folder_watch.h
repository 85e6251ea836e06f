// FolderWatch: something changed below some folders that may concern models.
//
// inotify on the folders, and on the folders directly in them; deeper changes and
// whatever inotify does not tell (network file systems, exhausted watches) are for a
// scan at times. What a download writes beside its file is no change.
//
// Threads: one. Limits: kWatchesMax folders.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace hearth::library {

inline constexpr std::size_t kWatchesMax = 256;

class FolderWatch {
public:
    explicit FolderWatch(std::vector<std::string> folders);
    ~FolderWatch();
    FolderWatch(FolderWatch const&) = delete;
    FolderWatch& operator=(FolderWatch const&) = delete;

    // To be polled for reading; -1 where there is no inotify.
    [[nodiscard]] int fd() const { return fd_; }

    // Reads what has happened; true if a scan is due. Never blocks.
    [[nodiscard]] bool changed() const;

    // Watches folders that came since.
    void renew();

private:
    void add(std::string const& folder, std::size_t& watches) const;

    std::vector<std::string> const folders_;
    int const fd_;
};

}  // namespace hearth::library
