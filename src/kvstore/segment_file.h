// SegmentFile: the format of one stored segment, docs/formats/kv-cache-files.md.
//
// A file is a header, a head (what the segment is: its place and its tokens) and
// a body (its bytes). Head and body each end in a tag: a checksum, or the seal's.
// Nothing of a part is used before its tag was right.
//
// Pure functions; no I/O. Private to kvstore.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kvstore/crypto.h"
#include "kvstore/options.h"

namespace hearth::kvstore {

inline constexpr std::size_t kHeaderBytes = 80;
inline constexpr std::uint32_t kSegmentTokensMax = 1U << 16;
inline constexpr std::uint64_t kBodyBytesMax = 4ULL << 30;

enum class SegmentKind : std::uint32_t {
    cells = 0,  // what each of its positions left behind
    state = 1,  // what the positions before `begin` left behind together; it has no tokens
};

// Positions [begin, begin + tokens.size()) of a text.
struct SegmentHead {
    Digest parent{};           // the key of the segment before; zero: none, and begin is 0
    Space space;
    SegmentKind kind = SegmentKind::cells;
    std::uint32_t begin = 0;   // at or before the end of the parent, behind the parent's begin
    std::vector<Token> tokens;

    [[nodiscard]] std::uint32_t end() const { return begin + static_cast<std::uint32_t>(tokens.size()); }
    bool operator==(SegmentHead const&) const = default;
};

struct FileLayout {
    Nonce nonce{};
    std::uint32_t head_bytes = 0;  // with tag
    std::uint64_t body_bytes = 0;  // with tag
    [[nodiscard]] std::uint64_t file_bytes() const { return kHeaderBytes + head_bytes + body_bytes; }
};

// A file ready to be written: the parts one after the other.
struct EncodedFile {
    std::vector<std::byte> front;   // header and head
    std::vector<std::byte> sealed;  // the body if it is sealed, with its tag
    Tag tag{};                      // of a body that is not
    [[nodiscard]] std::uint64_t bytes(std::span<std::byte const> blob) const {
        return front.size() + (sealed.empty() ? blob.size() + tag.size() : sealed.size());
    }
};

class SegmentFormat {
public:
    // `state_key` names everything that the bits of a blob depend on.
    SegmentFormat(std::string_view state_key, std::optional<SealKey> seal_key);

    [[nodiscard]] Digest key_of(SegmentHead const& head) const;

    // "FINGERPRINT-KEY.kv", ".kvs" if sealed.
    [[nodiscard]] std::string name_of(Digest const& key) const;

    // What a name says. `other`: a store's, for another model, build, key or version. `none`: not a store's.
    enum class Whose : std::uint8_t { ours, other, temporary, plain, none };
    [[nodiscard]] Whose whose(std::string_view name) const;
    [[nodiscard]] static std::string temporary_name();

    // REQUIRES: 1 to kSegmentTokensMax tokens of cells, none of a state; 1 to kBodyBytesMax - kTagBytes bytes of blob
    [[nodiscard]] EncodedFile encode(SegmentHead const& head, std::span<std::byte const> blob) const;

    // All fail with `corrupt`, saying what is wrong. `raw`, the header, is kHeaderBytes long.
    [[nodiscard]] Result<FileLayout> read_header(std::span<std::byte const> raw, std::uint64_t file_bytes) const;
    // `head` is what lies behind the header; it is changed.
    [[nodiscard]] Result<SegmentHead> read_head(std::span<std::byte const> header, FileLayout const& layout,
                                                std::span<std::byte> head) const;
    // `head` as read_head() left it; `body`, what lies behind it, becomes the blob.
    [[nodiscard]] Status read_body(FileLayout const& layout, std::span<std::byte const> head,
                                   std::vector<std::byte>& body) const;

private:
    Digest fingerprint_;
    std::optional<SealKey> seal_key_;
    std::vector<std::byte> name_secret_;  // so that names of sealed files say nothing of their text
};

}  // namespace hearth::kvstore
