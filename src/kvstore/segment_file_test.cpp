#include "kvstore/segment_file.h"

#include <gtest/gtest.h>

#include "kvstore/testing/texts.h"

namespace hearth::kvstore {
namespace {

SealKey key_of_byte(int byte) {
    SealKey key;
    key.fill(static_cast<std::byte>(byte));
    return key;
}

SegmentHead head_of(std::uint64_t seed, std::size_t tokens) {
    SegmentHead head;
    head.space = space_of("tenant", "salt");
    head.tokens = testing::text_of(seed, tokens);
    return head;
}

std::vector<std::byte> blob_of(std::size_t size) {
    std::vector<std::byte> blob(size);
    for (std::size_t i = 0; i < size; ++i) blob[i] = static_cast<std::byte>(testing::mix(i));
    return blob;
}

std::vector<std::byte> bytes_of(SegmentFormat const& format, SegmentHead const& head,
                                std::vector<std::byte> const& blob) {
    auto const encoded = format.encode(head, blob);
    auto bytes = encoded.front;
    auto const append = [&bytes](auto const& more) { bytes.insert(bytes.end(), more.begin(), more.end()); };
    if (encoded.sealed.empty()) {
        append(blob);
        append(encoded.tag);
    } else {
        append(encoded.sealed);
    }
    EXPECT_EQ(bytes.size(), encoded.bytes(blob));
    return bytes;
}

struct Read {
    SegmentHead head;
    std::vector<std::byte> blob;
};

Result<Read> read(SegmentFormat const& format, std::vector<std::byte> const& bytes) {
    if (bytes.size() < kHeaderBytes) return Error(Code::corrupt, "no header");
    auto const header = std::span(bytes).first(kHeaderBytes);
    HEARTH_TRY(auto const layout, format.read_header(header, bytes.size()));
    auto const at = [&](std::size_t offset) { return bytes.begin() + static_cast<std::ptrdiff_t>(offset); };
    std::vector<std::byte> head(at(kHeaderBytes), at(kHeaderBytes + layout.head_bytes));
    Read out;
    out.blob.assign(at(kHeaderBytes + layout.head_bytes), bytes.end());
    HEARTH_TRY(out.head, format.read_head(header, layout, head));
    HEARTH_CHECK(format.read_body(layout, head, out.blob));
    return out;
}

class segment_file : public ::testing::TestWithParam<bool> {
protected:
    SegmentFormat format{"model a", GetParam() ? std::optional(key_of_byte(7)) : std::nullopt};
};

TEST_P(segment_file, reads_back_what_was_written) {
    for (std::size_t const tokens : {std::size_t{1}, std::size_t{255}, std::size_t{kSegmentTokensMax}}) {
        auto head = head_of(tokens, tokens);
        if (tokens > 1) {
            head.begin = 77;
            head.parent = format.key_of(head_of(1, 80));
        }
        auto const blob = blob_of(tokens * 7);
        auto const back = read(format, bytes_of(format, head, blob));
        ASSERT_TRUE(back.has_value()) << back.error().message;
        EXPECT_EQ(back->head, head);
        EXPECT_EQ(back->blob, blob);
    }
}

TEST_P(segment_file, a_state_reads_back_and_has_a_key_of_its_own) {
    SegmentHead head = head_of(1, 20);
    head.parent = format.key_of(head);
    head.begin = 15;
    head.tokens.clear();
    head.kind = SegmentKind::state;
    auto const back = read(format, bytes_of(format, head, blob_of(50)));
    ASSERT_TRUE(back.has_value()) << back.error().message;
    EXPECT_EQ(back->head, head);
    auto other = head;
    other.begin = 16;
    EXPECT_NE(format.key_of(other), format.key_of(head));
}

TEST_P(segment_file, a_file_cut_anywhere_is_refused) {
    auto const bytes = bytes_of(format, head_of(3, 20), blob_of(300));
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        auto const cut = std::vector(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_FALSE(read(format, cut).has_value()) << size;
    }
    auto longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(read(format, longer).has_value());
}

TEST_P(segment_file, a_file_with_any_bit_flipped_is_refused) {
    auto const bytes = bytes_of(format, head_of(3, 20), blob_of(300));
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        auto bent = bytes;
        bent[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        EXPECT_FALSE(read(format, bent).has_value()) << bit;
    }
}

TEST_P(segment_file, parts_of_two_files_make_none) {
    auto const one = bytes_of(format, head_of(3, 20), blob_of(300));
    auto other = bytes_of(format, head_of(4, 20), blob_of(300));
    ASSERT_EQ(one.size(), other.size());
    auto const body = static_cast<std::ptrdiff_t>(kHeaderBytes + 60 + 4 * 20 + kTagBytes);
    std::copy(one.begin() + body, one.end(), other.begin() + body);
    auto const mixed = read(format, other);
    ASSERT_FALSE(mixed.has_value());
    EXPECT_NE(mixed.error().message.find("body"), std::string::npos) << mixed.error().message;
}

TEST_P(segment_file, another_model_version_or_key_reads_nothing) {
    auto const bytes = bytes_of(format, head_of(3, 20), blob_of(300));
    EXPECT_TRUE(read(SegmentFormat("model a", GetParam() ? std::optional(key_of_byte(7)) : std::nullopt), bytes));
    EXPECT_FALSE(read(SegmentFormat("model b", GetParam() ? std::optional(key_of_byte(7)) : std::nullopt), bytes));
    EXPECT_FALSE(read(SegmentFormat("model a", key_of_byte(8)), bytes));
    EXPECT_EQ(read(SegmentFormat("model a", std::nullopt), bytes).has_value(), !GetParam());
}

TEST_P(segment_file, a_name_says_whose_it_is) {
    using enum SegmentFormat::Whose;
    SegmentFormat const other_model("model b", GetParam() ? std::optional(key_of_byte(7)) : std::nullopt);
    auto const key = format.key_of(head_of(1, 4));
    EXPECT_EQ(format.whose(format.name_of(key)), ours);
    EXPECT_EQ(format.whose(other_model.name_of(key)), SegmentFormat::Whose::other);
    EXPECT_EQ(format.whose(SegmentFormat::temporary_name()), temporary);
    EXPECT_EQ(format.whose(SegmentFormat("model a", {}).name_of(key)), GetParam() ? plain : ours);
    for (auto const* name : {"", ".kv", "notes.txt", "a.tmp", "0123456789abcdeX.tmp", "x.kvs", "../secret.kv"})
        EXPECT_EQ(format.whose(name), none) << name;
    EXPECT_EQ(format.whose("x" + format.name_of(key).substr(1)), none);
}

TEST_P(segment_file, a_sealed_one_shows_neither_text_nor_state) {
    auto const head = head_of(3, 20);
    auto const blob = blob_of(300);
    auto const bytes = bytes_of(format, head, blob);
    auto const shows = [&](std::span<std::byte const> part) {
        return std::search(bytes.begin(), bytes.end(), part.begin(), part.end()) != bytes.end();
    };
    EXPECT_EQ(shows(std::as_bytes(std::span(head.tokens)).first(16)), !GetParam());
    EXPECT_EQ(shows(std::span(blob).first(16)), !GetParam());
    EXPECT_EQ(bytes == bytes_of(format, head, blob), !GetParam()) << "a nonce is used once";
    EXPECT_EQ(format.key_of(head) == SegmentFormat("model a", {}).key_of(head), !GetParam());
}

INSTANTIATE_TEST_SUITE_P(kvstore, segment_file, ::testing::Bool(),
                         [](auto const& test) { return std::string(test.param ? "sealed" : "plain"); });

}  // namespace
}  // namespace hearth::kvstore
