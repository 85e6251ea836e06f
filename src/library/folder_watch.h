// FolderWatch: something changed below some folders that may concern models.
//
// inotify on the folders and, as deep as models lie in the layouts that the catalog knows
// (catalog/layouts.h), on those in them: folders of safetensors, Ollama's manifests and blobs,
// the refs, snapshots and blobs of Hugging Face's cache. Those near the top come first. What is beyond
// kWatchesMax, and what inotify does not tell (network file systems), is for a
// scan at times. What a download writes beside its file is no change.
//
// Threads: one. Limits: kWatchesMax folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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

    // Watches these, and folders in them that came since; no others any more.
    void renew(std::vector<std::string> const& folders);

    // What a folder is in its layout: what in it concerns models, and what the folders in it are.
    enum class Place : std::uint8_t {
        lists,       // of catalog::kImportedFile
        root,        // a models folder
        hub,         // the `hub` in it
        outer,       // plain folders, of which a publisher's is one
        middle,      // those in them, of which a repository is one
        inner,       // and in those
        repository,  // models--ORG--REPO
        refs,
        snapshots,
        snapshot,    // one revision
        blobs,
        manifests,   // manifests/HOST/NAMESPACE/MODEL/TAG
        host,
        space,
        tags,
    };

private:
    // False where no more are to be watched.
    bool add(std::string const& folder, Place place);

    std::string const lists_;
    int const fd_;
    std::map<int, Place> watched_;  // by inotify's number
};

}  // namespace hearth::library
