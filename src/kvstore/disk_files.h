// DiskFiles: the files of one store in their folder. No state but these two.
//
// Threads: any. Private to kvstore.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kvstore/folder.h"
#include "kvstore/segment_file.h"

namespace hearth::kvstore {

class DiskFiles {
public:
    struct Found {
        SegmentHead head;
        Digest key{};
        std::uint64_t bytes = 0;
        std::int64_t modified_ns = 0;
    };
    struct Scan {
        std::vector<Found> segments;        // in order of `begin`: parents first
        std::vector<Folder::File> others;   // of other models, builds or keys; oldest first
        std::unordered_set<std::string> gone;  // names that were known and are not there
        std::uint64_t bad = 0;              // damaged, and removed
        std::uint64_t errors = 0;
    };

    DiskFiles(std::shared_ptr<Folder> folder, SegmentFormat format)
        : folder_(std::move(folder)), format_(std::move(format)) {}

    // Reads the heads of all files but the `known` ones; removes what a crash left and
    // what is damaged. Files that are no store's are not touched.
    [[nodiscard]] Result<Scan> scan(std::size_t files_max, std::unordered_set<std::string> known = {});

    // On the medium when this returns; nothing is left behind on error, as far as the disk lets us.
    [[nodiscard]] Status write(Digest const& key, EncodedFile const& file, std::span<std::byte const> blob);

    // The checked blob of the segment that `head` and `key` describe.
    [[nodiscard]] Result<std::vector<std::byte>> read(SegmentHead const& head, Digest const& key,
                                                      std::uint64_t file_bytes);

    [[nodiscard]] Status remove(Digest const& key) { return remove(format_.name_of(key)); }
    // One that is gone already is fine.
    [[nodiscard]] Status remove(std::string const& name);
    [[nodiscard]] bool is_shared() const { return folder_->is_shared(); }
    [[nodiscard]] Status touch(Digest const& key) { return folder_->touch(format_.name_of(key)); }

private:
    [[nodiscard]] Result<Found> read_head(Folder::File const& file);
    [[nodiscard]] Result<std::vector<std::byte>> read_once(SegmentHead const& head, std::string const& name,
                                                           std::uint64_t file_bytes);

    std::shared_ptr<Folder> folder_;
    SegmentFormat format_;
};

}  // namespace hearth::kvstore
