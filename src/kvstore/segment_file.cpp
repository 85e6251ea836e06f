#include "kvstore/segment_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/bytes.h"

namespace hearth::kvstore {
namespace {

constexpr std::uint64_t kMagic = 0x3143564B48545248;  // "HRTHKVC1"
constexpr std::uint32_t kVersion = 3;
constexpr std::uint32_t kSealed = 1;

constexpr std::uint8_t kHeadSection = 1;
constexpr std::uint8_t kBodySection = 2;

constexpr std::string_view kPlainSuffix = ".kv";
constexpr std::string_view kSealedSuffix = ".kvs";
constexpr std::string_view kTemporarySuffix = ".tmp";
constexpr std::size_t kTemporaryDigits = 16;
constexpr std::size_t kDigestDigits = 2 * sizeof(Digest);

struct Header {
    std::uint64_t magic = kMagic;
    std::uint32_t version = kVersion;
    std::uint32_t flags = 0;
    Digest fingerprint{};
    Nonce nonce{};
    std::uint32_t head_bytes = 0;
    std::uint32_t reserved = 0;
    std::uint64_t body_bytes = 0;
    std::uint64_t checksum = 0;  // the first half of the tag of all before
};
static_assert(sizeof(Header) == kHeaderBytes && std::has_unique_object_representations_v<Header>);

std::uint64_t header_checksum(Header const& header) {
    auto const bytes = std::as_bytes(std::span(&header, 1));
    auto const tag = checksum({}, bytes.first(kHeaderBytes - sizeof header.checksum));
    std::uint64_t sum = 0;
    std::memcpy(&sum, tag.data(), sizeof sum);
    return sum;
}

template <typename T>
std::span<std::byte const> bytes_of(T const& value) {
    return std::as_bytes(std::span(&value, 1));
}

std::string head_text(SegmentHead const& head) {
    ByteWriter writer;
    auto const raw = [&writer](Digest const& digest) {
        for (auto const byte : digest) writer.write(std::to_integer<std::uint8_t>(byte));
    };
    raw(head.parent);
    raw(head.space.digest);
    raw(head.space.account);
    writer.write(static_cast<std::uint32_t>(head.kind));
    writer.write(head.begin);
    writer.write_count(head.tokens.size());
    for (Token const token : head.tokens) writer.write(token);
    return std::move(writer).take();
}

Result<SegmentHead> parse_head(std::span<std::byte const> text) {
    ByteReader reader(text);
    SegmentHead head;
    for (auto* const digest : {&head.parent, &head.space.digest, &head.space.account}) {
        auto const raw = reader.read_bytes(sizeof(Digest));
        if (raw.size() == sizeof(Digest)) std::memcpy(digest->data(), raw.data(), sizeof(Digest));
    }
    auto const kind = reader.read<std::uint32_t>();
    head.kind = static_cast<SegmentKind>(kind);
    head.begin = reader.read<std::uint32_t>();
    head.tokens.resize(reader.read_count(sizeof(Token)));
    for (Token& token : head.tokens) token = reader.read<Token>();
    bool const root = head.parent == Digest{};
    bool const is_state = head.kind == SegmentKind::state;
    bool const in_range = kind <= static_cast<std::uint32_t>(SegmentKind::state) && head.tokens.empty() == is_state &&
                          head.tokens.size() <= kSegmentTokensMax && root == (head.begin == 0) && !(root && is_state) &&
                          head.begin <= 0x7fffffffU - kSegmentTokensMax;
    if (!reader.ok() || reader.left() != 0 || !in_range)
        return Error(Code::corrupt, "the head of the file makes no sense");
    return head;
}

bool is_hex(std::string_view text) {
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Digest zero_unless(std::optional<SealKey> const& key) {
    if (!key) return {};
    constexpr std::string_view kPurpose = "hearth kv cache: which key";
    std::array const parts{std::as_bytes(std::span(kPurpose))};
    return digest(*key, parts);
}

}  // namespace

SegmentFormat::SegmentFormat(std::string_view state_key, std::optional<SealKey> seal_key) : seal_key_(seal_key) {
    auto const key_check = zero_unless(seal_key_);
    std::array const parts{bytes_of(kVersion), std::as_bytes(std::span(state_key)), bytes_of(key_check)};
    fingerprint_ = digest({}, parts);
    if (!seal_key_) return;
    constexpr std::string_view kPurpose = "hearth kv cache: names";
    std::array const purpose{std::as_bytes(std::span(kPurpose))};
    auto const secret = digest(*seal_key_, purpose);
    name_secret_.assign(secret.begin(), secret.end());
}

Digest SegmentFormat::key_of(SegmentHead const& head) const {
    auto const text = head_text(head);
    std::array const parts{std::as_bytes(std::span(text))};
    return digest(name_secret_, parts);
}

std::string SegmentFormat::name_of(Digest const& key) const {
    return fmt::format("{}-{}{}", hex(fingerprint_), hex(key), seal_key_ ? kSealedSuffix : kPlainSuffix);
}

SegmentFormat::Whose SegmentFormat::whose(std::string_view name) const {
    bool const temporary =
        name.size() == kTemporaryDigits + kTemporarySuffix.size() && name.ends_with(kTemporarySuffix);
    if (temporary && is_hex(name.substr(0, kTemporaryDigits))) return Whose::temporary;
    bool const sealed = name.ends_with(kSealedSuffix);
    if (!sealed && !name.ends_with(kPlainSuffix)) return Whose::none;
    name.remove_suffix(sealed ? kSealedSuffix.size() : kPlainSuffix.size());
    if (name.size() != 2 * kDigestDigits + 1 || name[kDigestDigits] != '-' || !is_hex(name.substr(0, kDigestDigits)) ||
        !is_hex(name.substr(kDigestDigits + 1)))
        return Whose::none;
    if (!sealed && seal_key_) return Whose::plain;
    bool const same = sealed == seal_key_.has_value() && name.substr(0, kDigestDigits) == hex(fingerprint_);
    return same ? Whose::ours : Whose::other;
}

std::string SegmentFormat::temporary_name() {
    auto const nonce = random_nonce();
    return hex(std::span(nonce).first(kTemporaryDigits / 2)) + std::string(kTemporarySuffix);
}

EncodedFile SegmentFormat::encode(SegmentHead const& head, std::span<std::byte const> blob) const {
    HEARTH_ASSERT(head.tokens.empty() == (head.kind == SegmentKind::state) && head.tokens.size() <= kSegmentTokensMax,
                  "cells are of some tokens, a state of none");
    HEARTH_ASSERT(!blob.empty() && blob.size() <= kBodyBytesMax - kTagBytes, "a segment has a state");
    auto const text = head_text(head);
    auto const plain = std::as_bytes(std::span(text));
    Header header;
    header.flags = seal_key_ ? kSealed : 0;
    header.fingerprint = fingerprint_;
    if (seal_key_) header.nonce = random_nonce();
    header.head_bytes = static_cast<std::uint32_t>(plain.size() + kTagBytes);
    header.body_bytes = blob.size() + kTagBytes;
    header.checksum = header_checksum(header);

    EncodedFile file;
    auto const raw = bytes_of(header);
    file.front.assign(raw.begin(), raw.end());
    if (seal_key_) {
        auto const sealed = seal(*seal_key_, header.nonce, kHeadSection, raw, plain);
        file.front.insert(file.front.end(), sealed.begin(), sealed.end());
        file.sealed = seal(*seal_key_, header.nonce, kBodySection, std::span(file.front).last(kTagBytes), blob);
        return file;
    }
    auto const tag = checksum(raw, plain);
    file.front.insert(file.front.end(), plain.begin(), plain.end());
    file.front.insert(file.front.end(), tag.begin(), tag.end());
    file.tag = checksum(tag, blob);
    return file;
}

Result<FileLayout> SegmentFormat::read_header(std::span<std::byte const> raw, std::uint64_t file_bytes) const {
    HEARTH_ASSERT(raw.size() == kHeaderBytes, "the caller read the header");
    Header header;
    std::memcpy(&header, raw.data(), sizeof header);
    if (header.magic != kMagic) return Error(Code::corrupt, "this is no file of a KV cache");
    if (header.version != kVersion)
        return Error(Code::corrupt,
                     fmt::format("version {} of the format, this build reads {}", header.version, kVersion));
    if (header.checksum != header_checksum(header)) return Error(Code::corrupt, "the header is damaged");
    if (header.fingerprint != fingerprint_ || header.flags != (seal_key_ ? kSealed : 0U) || header.reserved != 0)
        return Error(Code::corrupt, "the file was written for another model, build, key or set of options");
    FileLayout const layout{header.nonce, header.head_bytes, header.body_bytes};
    bool const in_range = layout.head_bytes > kTagBytes &&
                          layout.head_bytes <= kTagBytes + 64 + std::uint64_t{4} * kSegmentTokensMax &&
                          layout.body_bytes > kTagBytes && layout.body_bytes <= kBodyBytesMax;
    if (!in_range || layout.file_bytes() != file_bytes)
        return Error(Code::corrupt, fmt::format("{} bytes of head and {} of body do not make a file of {}",
                                                layout.head_bytes, layout.body_bytes, file_bytes));
    return layout;
}

Result<SegmentHead> SegmentFormat::read_head(std::span<std::byte const> header, FileLayout const& layout,
                                             std::span<std::byte> head) const {
    HEARTH_ASSERT(head.size() == layout.head_bytes, "the caller read the head");
    auto const plain = head.first(head.size() - kTagBytes);
    if (seal_key_) {
        if (!unseal(*seal_key_, layout.nonce, kHeadSection, header, head))
            return Error(Code::corrupt, "the head's seal is broken");
    } else if (auto const tag = checksum(header, plain); !std::ranges::equal(tag, head.last(kTagBytes))) {
        return Error(Code::corrupt, "the head is damaged");
    }
    return parse_head(plain);
}

// The head's tag is the body's context, so that parts of two files never make one.
Status SegmentFormat::read_body(FileLayout const& layout, std::span<std::byte const> head,
                                std::vector<std::byte>& body) const {
    HEARTH_ASSERT(body.size() == layout.body_bytes && head.size() == layout.head_bytes, "the caller read both");
    auto const context = head.last(kTagBytes);
    auto const plain = std::span(body).first(body.size() - kTagBytes);
    if (seal_key_) {
        if (!unseal(*seal_key_, layout.nonce, kBodySection, context, body))
            return Error(Code::corrupt, "the body's seal is broken");
    } else if (auto const tag = checksum(context, plain); !std::ranges::equal(tag, std::span(body).last(kTagBytes))) {
        return Error(Code::corrupt, "the body is damaged");
    }
    body.resize(body.size() - kTagBytes);
    return ok();
}

}  // namespace hearth::kvstore
