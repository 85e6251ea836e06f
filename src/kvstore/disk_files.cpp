#include "kvstore/disk_files.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace hearth::kvstore {

Result<DiskFiles::Scan> DiskFiles::scan(std::size_t files_max, std::unordered_set<std::string> known) {
    HEARTH_TRY(auto files, folder_->list(files_max));
    Scan scan;
    auto const drop = [&](std::string const& name) { scan.errors += remove(name) ? 0 : 1; };
    for (auto& file : files) {
        switch (format_.whose(file.name)) {
            case SegmentFormat::Whose::none: break;
            case SegmentFormat::Whose::other: scan.others.push_back(std::move(file)); break;
            case SegmentFormat::Whose::plain:  // whoever seals wants no text lying about
                drop(file.name);
                break;
            case SegmentFormat::Whose::temporary:  // another process may be writing it
                if (file.modified_ns <= folder_->abandoned_ns()) drop(file.name);
                break;
            case SegmentFormat::Whose::ours: {
                if (known.erase(file.name) > 0) break;
                auto found = read_head(file);
                if (found) {
                    scan.segments.push_back(std::move(found).value());
                } else if (found.error().code == Code::corrupt) {
                    ++scan.bad;
                    drop(file.name);
                } else if (found.error().code != Code::not_found) {
                    ++scan.errors;
                }
            }
        }
    }
    // Of a longer list nobody knows what is not there.
    if (files.size() < files_max) scan.gone = std::move(known);
    std::ranges::sort(scan.segments, {}, [](Found const& found) { return std::pair(found.head.begin, found.key); });
    std::ranges::sort(scan.others, {}, [](Folder::File const& file) { return std::pair(file.modified_ns, file.name); });
    return scan;
}

Result<DiskFiles::Found> DiskFiles::read_head(Folder::File const& file) {
    std::array<std::byte, kHeaderBytes> header;
    if (file.bytes < header.size()) return Error(Code::corrupt, "the file is shorter than its header");
    HEARTH_CHECK(folder_->read(file.name, 0, header));
    HEARTH_TRY(auto const layout, format_.read_header(header, file.bytes));
    std::vector<std::byte> raw(layout.head_bytes);
    HEARTH_CHECK(folder_->read(file.name, kHeaderBytes, raw));
    Found found;
    found.bytes = file.bytes;
    found.modified_ns = file.modified_ns;
    HEARTH_TRY(found.head, format_.read_head(header, layout, raw));
    found.key = format_.key_of(found.head);
    if (format_.name_of(found.key) != file.name) return Error(Code::corrupt, "the file has the name of another");
    return found;
}

Status DiskFiles::write(Digest const& key, EncodedFile const& file, std::span<std::byte const> blob) {
    auto const temporary = SegmentFormat::temporary_name();
    std::array<std::span<std::byte const>, 3> parts{file.front, blob, file.tag};
    std::size_t count = parts.size();
    if (!file.sealed.empty()) {
        parts[1] = file.sealed;
        count = 2;
    }
    Status written = ok();
    // A process that came at that very moment may have taken it for abandoned: once.
    for (int i = 0; i < 2; ++i) {
        written = folder_->write(temporary, std::span(parts).first(count));
        if (written) written = folder_->rename(temporary, format_.name_of(key));
        if (written || written.error().code != Code::not_found) break;
    }
    if (!written) (void)folder_->remove(temporary);  // the error that counts is the first
    return written;
}

// Another process may have replaced the file by its equal between one part and the next.
Result<std::vector<std::byte>> DiskFiles::read(SegmentHead const& head, Digest const& key, std::uint64_t file_bytes) {
    auto const name = format_.name_of(key);
    auto body = read_once(head, name, file_bytes);
    if (body || body.error().code != Code::corrupt) return body;
    return read_once(head, name, file_bytes);
}

Result<std::vector<std::byte>> DiskFiles::read_once(SegmentHead const& head, std::string const& name,
                                                    std::uint64_t file_bytes) {
    std::array<std::byte, kHeaderBytes> header;
    HEARTH_CHECK(folder_->read(name, 0, header));
    HEARTH_TRY(auto const layout, format_.read_header(header, file_bytes));
    std::vector<std::byte> raw(layout.head_bytes);
    HEARTH_CHECK(folder_->read(name, kHeaderBytes, raw));
    HEARTH_TRY(auto const found, format_.read_head(header, layout, raw));
    if (!(found == head)) return Error(Code::corrupt, "the file holds another text");
    std::vector<std::byte> body(layout.body_bytes);
    HEARTH_CHECK(folder_->read(name, kHeaderBytes + layout.head_bytes, body));
    HEARTH_CHECK(format_.read_body(layout, raw, body));
    return body;
}

Status DiskFiles::remove(std::string const& name) {
    auto removed = folder_->remove(name);
    if (!removed && removed.error().code == Code::not_found) return ok();
    return removed;
}

}  // namespace hearth::kvstore
