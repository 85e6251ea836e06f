// FolderWatch: something changed below some folders that may concern models.
//
// inotify on the folders, and on the folders directly in them; deeper changes and
// whatever inotify does not tell (network file systems, exhausted watches) are for a
// scan at times. What a download writes beside its file is no change.
//
// Threads: one. Limits: kWatchesMax folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace hearth::library {

inline constexpr std::size_t kWatchesMax = 256;

class FolderWatch {
public:
    // `lists` is a folder in which changes of catalog::kImportedFile count, too; empty: none.
    FolderWatch(std::vector<std::string> const& folders, std::string lists);
    ~FolderWatch();
    FolderWatch(FolderWatch const&) = delete;
    FolderWatch& operator=(FolderWatch const&) = delete;

    // To be polled for reading; -1 where there is no inotify.
    [[nodiscard]] int fd() const { return fd_; }

    // Reads what has happened; true if a scan is due. Never blocks.
    [[nodiscard]] bool changed() const;

    // Watches these, and folders in them that came since. What was watched before still is.
    void renew(std::vector<std::string> const& folders);

private:
    void add(std::string const& folder, std::uint32_t events, std::size_t& watches) const;

    std::string const lists_;
    int const fd_;
};

}  // namespace hearth::library
