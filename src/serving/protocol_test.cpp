#include "serving/protocol.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "serving/testing/random_frame.h"

namespace hearth::serving {
namespace {

constexpr std::size_t kKinds = std::variant_size_v<Frame>;
constexpr std::size_t kPrefix = 4;

std::string encoded(Frame const& frame) {
    auto bytes = encode(frame);
    EXPECT_TRUE(bytes.has_value()) << (bytes ? "" : bytes.error().message);
    return bytes ? *std::move(bytes) : std::string();
}

std::string body(Frame const& frame) { return encoded(frame).substr(kPrefix); }

// A frame's body with one number replaced at `offset` of the payload.
template <typename T>
std::string patched(Frame const& frame, std::size_t offset, T value) {
    auto out = body(frame);
    std::memcpy(out.data() + 3 + offset, &value, sizeof value);
    return out;
}

std::string why(Result<Frame> const& result) { return result ? "accepted" : result.error().message; }

TEST(Protocol, EveryFrameComesBackAsItWasSent) {
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        testing::FrameSource source(seed);
        for (std::size_t kind = 0; kind < kKinds; ++kind) {
            SCOPED_TRACE("seed " + std::to_string(seed) + ", kind " + std::to_string(kind));
            auto const frame = source.frame(kind);
            ASSERT_EQ(frame.index(), kind);
            auto const bytes = encoded(frame);
            auto const back = decode(std::string_view(bytes).substr(kPrefix));
            ASSERT_TRUE(back) << back.error().message;
            ASSERT_EQ(*back, frame);
            ASSERT_EQ(encoded(*back), bytes);
        }
    }
}

TEST(Protocol, EveryTruncationAndEveryExtensionIsRefused) {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
        testing::FrameSource source(seed);
        for (std::size_t kind = 0; kind < kKinds; ++kind) {
            auto const whole = body(source.frame(kind));
            for (std::size_t length = 0; length < whole.size(); ++length) {
                auto const result = decode(std::string_view(whole).substr(0, length));
                ASSERT_FALSE(result) << "kind " << kind << " cut to " << length << " of " << whole.size();
                ASSERT_EQ(result.error().code, Code::corrupt);
            }
            ASSERT_FALSE(decode(whole + '\0')) << "kind " << kind;
        }
    }
}

TEST(Protocol, FlippedBitsAreRefusedOrGiveAFrameThatEncodesToTheSameBytes) {
    testing::FrameSource source(7);
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
        auto const whole = body(source.frame(kind));
        for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
            auto changed = whole;
            changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
            auto const result = decode(changed);
            if (result) ASSERT_EQ(body(*result), changed) << "kind " << kind << ", bit " << bit;
        }
    }
}

TEST(Protocol, RefusesAnotherVersionAndUnknownTypesNamingThem) {
    auto bytes = body(PingFrame{1});
    bytes[0] = 1;
    EXPECT_EQ(why(decode(bytes)), "worker frame has version 1, this build speaks version 9");
    bytes[0] = kFrameVersion;
    for (int type = 0; type < 256; ++type) {
        bytes[2] = static_cast<char>(type);
        bool const known = (type >= 1 && type <= 9) || (type >= 16 && type <= 23);
        auto const reason = why(decode(bytes));
        EXPECT_EQ(reason == "worker frame has unknown type " + std::to_string(type), !known) << reason;
    }
}

TEST(Protocol, RefusesNumbersThatMeanNothing) {
    EXPECT_FALSE(decode(patched<RequestId>(CancelFrame{1}, 0, 0)));
    EXPECT_FALSE(decode(patched<std::uint32_t>(GrantFrame{1, 5}, 8, 0)));
    EXPECT_FALSE(decode(patched(LoadingFrame{0.5F}, 0, std::nanf(""))));
    EXPECT_FALSE(decode(patched(LoadingFrame{0.5F}, 0, -0.1F)));
    EXPECT_FALSE(decode(patched(LoadingFrame{0.5F}, 0, 1.1F)));
    EXPECT_FALSE(decode(patched<std::uint8_t>(LogFrame{1, "x"}, 0, 4)));
    EXPECT_FALSE(decode(patched<std::uint8_t>(LoadFailedFrame{{Code::io, "x"}}, 0, kCodeCount)));
    // A step holds a count, then id, tag and fields.
    StepFrame const step{{{1, domain::ChoiceDone{0, domain::FinishReason::stop, ""}}}};
    EXPECT_FALSE(decode(patched<std::uint32_t>(step, 0, 0)));
    EXPECT_FALSE(decode(patched<std::uint8_t>(step, 12, 6))) << "an event that does not exist";
    EXPECT_FALSE(decode(patched<std::uint8_t>(step, 13, domain::kChoicesMax))) << "a choice that no request can have";
    EXPECT_FALSE(decode(patched<std::uint8_t>(step, 14, 4))) << "a reason that does not exist";
}

TEST(Protocol, RefusesCountsBeyondTheBytesThatAreLeftWithoutReservingThem) {
    StepFrame const step{{{1, domain::Started{1, 0}}}};
    EXPECT_FALSE(decode(patched<std::uint32_t>(step, 0, 0xffffffffU)));
    EXPECT_FALSE(decode(patched<std::uint32_t>(step, 0, 2)));
    LogFrame const log{1, "text"};
    EXPECT_FALSE(decode(patched<std::uint32_t>(log, 1, 0xffffffffU)));
}

TEST(Protocol, RefusesTextForTheFrontThatIsNotUtf8) {
    StepFrame const step{{{1, domain::Delta{0, 1, "abc", {}}}}};
    auto const offset = 4 + 8 + 1 + 1 + 4 + 4;  // count, id, tag, choice, tokens, length
    ASSERT_TRUE(decode(patched<char>(step, offset, 'z')));
    EXPECT_FALSE(decode(patched<char>(step, offset, '\xff')));
}

TEST(Protocol, SendsBytesThatAreNotUtf8AsReplacementCharactersToTheFront) {
    auto const log = decode(body(LogFrame{1, "a\xff"}));
    ASSERT_TRUE(log);
    EXPECT_EQ(std::get<LogFrame>(*log).text, "a\xef\xbf\xbd");
    domain::ModelInfo info;
    info.name = "bad \xc3";
    auto const ready = decode(body(ReadyFrame{info}));
    ASSERT_TRUE(ready);
    EXPECT_TRUE(is_valid_utf8(std::get<ReadyFrame>(*ready).info.name));
}

TEST(Protocol, EncodeRefusesWhatDecodeWouldRefuse) {
    SubmitFrame const good{1, {}};
    ASSERT_TRUE(encode(good));
    auto const refused = [&](auto const& change) {
        auto frame = good;
        change(frame);
        auto const result = encode(frame);
        EXPECT_FALSE(result);
        return result ? std::string() : result.error().param;
    };
    EXPECT_EQ(refused([](auto& f) { f.id = 0; }), "request id 0");
    EXPECT_EQ(refused([](auto& f) { f.request.sampling.temperature = std::nanf(""); }), "temperature");
    EXPECT_EQ(refused([](auto& f) { f.request.sampling.top_p = INFINITY; }), "top_p");
    EXPECT_EQ(refused([](auto& f) { f.request.sampling.logit_bias = {{1, INFINITY}}; }), "logit_bias");
    EXPECT_EQ(refused([](auto& f) { f.request.choices = 0; }), "n");
    EXPECT_EQ(refused([](auto& f) { f.request.choices = domain::kChoicesMax + 1; }), "n");
    EXPECT_EQ(refused([](auto& f) { f.request.top_logprobs = domain::kLogprobsMax + 1; }), "top_logprobs");
    EXPECT_EQ(refused([](auto& f) { f.request.stop.resize(domain::kStopStringsMax + 1); }), "number of stop strings");
    EXPECT_FALSE(encode(StepFrame{}));
    EXPECT_FALSE(encode(GrantFrame{1, 0}));
    EXPECT_TRUE(encode(LogFrame{0, std::string(kLogBytesMax, 'x')}));
    EXPECT_FALSE(encode(LogFrame{0, std::string(kLogBytesMax + 1, 'x')}));
    EXPECT_FALSE(encode(LogFrame{0, std::string(kLogBytesMax, '\xff')})) << "it grows when it is made valid";
}

TEST(Protocol, ForbiddenTokensKeepMinusInfinityAndNanLogprobsBecomeIt) {
    SubmitFrame frame{1, {}};
    frame.request.sampling.logit_bias = {{7, -INFINITY}};
    EXPECT_EQ(std::get<SubmitFrame>(*decode(body(frame))), frame);
    domain::Delta delta{0, 1, "x", {{{1, std::nanf(""), "x"}, {}}}};
    auto const back = decode(body(StepFrame{{{1, delta}}}));
    ASSERT_TRUE(back);
    EXPECT_EQ(std::get<domain::Delta>(std::get<StepFrame>(*back).entries[0].event).logprobs[0].chosen.logprob,
              -INFINITY);
}

TEST(Protocol, AFrameAboveTheLimitIsTooLarge) {
    SubmitFrame frame{1, {}};
    frame.request.prompt = domain::TextPrompt{std::string(kFrameBytesMax, 'x')};
    auto const result = encode(frame);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::too_large);
}

TEST(StepEncoder, WritesTheSameBytesAsEncodeAndCanBeUsedAgain) {
    StepEncoder encoder;
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
        testing::FrameSource source(seed);
        auto const frame = std::get<StepFrame>(source.frame(8));
        encoder.clear();
        EXPECT_TRUE(encoder.empty());
        for (auto const& entry : frame.entries) encoder.add(entry.id, entry.event);
        ASSERT_EQ(encoder.finish(), encoded(frame)) << "seed " << seed;
    }
}

TEST(FrameReader, CutsAStreamInAnyPortions) {
    std::string stream;
    std::vector<Frame> sent;
    testing::FrameSource source(3);
    for (std::size_t i = 0; i < 4 * kKinds; ++i) {
        sent.push_back(source.frame(i % kKinds));
        stream += encoded(sent.back());
    }
    for (std::size_t portion : {std::size_t(1), std::size_t(2), std::size_t(3), std::size_t(7), std::size_t(64),
                                std::size_t(4096), stream.size()}) {
        FrameReader reader;
        std::vector<Frame> received;
        for (std::size_t at = 0; at < stream.size(); at += portion) {
            reader.push(std::string_view(stream).substr(at, portion));
            for (auto frame = reader.next(); frame && *frame; frame = reader.next()) received.push_back(**frame);
        }
        ASSERT_EQ(received, sent) << "portions of " << portion;
    }
}

TEST(FrameReader, FailsAtTheHeaderAndStaysFailed) {
    auto const header = [](std::uint32_t length, std::uint16_t version, std::uint8_t type) {
        ByteWriter out;
        out.write(length);
        out.write(version);
        out.write(type);
        return std::move(out).take();
    };
    auto const fails = [](std::string_view bytes, std::uint32_t limit = kFrameBytesMax) {
        FrameReader reader(limit);
        reader.push(bytes);
        if (reader.next()) return false;
        reader.push(encoded(PingFrame{1}));
        return !reader.next();
    };
    EXPECT_FALSE(fails(header(100, kFrameVersion, 4)));
    EXPECT_TRUE(fails(header(100, kFrameVersion + 1, 4)));
    EXPECT_TRUE(fails(header(100, kFrameVersion, 10)));
    EXPECT_TRUE(fails(header(2, kFrameVersion, 4).substr(0, 4))) << "the length alone tells";
    EXPECT_TRUE(fails(header(kFrameBytesMax + 1, kFrameVersion, 1).substr(0, 4)));
    EXPECT_TRUE(fails(header(kWorkerFrameBytesMax + 1, kFrameVersion, 19), kWorkerFrameBytesMax));
    EXPECT_FALSE(fails(header(kWorkerFrameBytesMax, kFrameVersion, 19), kWorkerFrameBytesMax));
}

}  // namespace
}  // namespace hearth::serving
