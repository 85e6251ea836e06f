// Frames between the front and a worker: typed, length-prefixed, versioned.
//
// docs/formats/worker-frames.md is the specification; this is its only
// implementation, used by both sides. A frame is
//
//   u32 length of what follows | u16 version | u8 type | payload
//
// little-endian. A decoder accepts exactly its own version; anything malformed
// is `corrupt` and ends the connection (the peer is another build or broken).
//
// There is one encoding of a frame, so encode(decode(bytes)) == bytes; and
// encode() refuses what decode() would refuse, so a bad value is an error of
// the request that holds it and never the end of a connection.
//
// Threads: one per object.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "domain/engine_report.h"
#include "domain/generate.h"
#include "domain/model.h"

namespace hearth::serving {

inline constexpr std::uint16_t kFrameVersion = 9;
inline constexpr std::uint32_t kFrameBytesMax = 64U << 20;  // length field; a request's prompt fits four times over
// Worker to front: what a broken worker can make the front hold.
inline constexpr std::uint32_t kWorkerFrameBytesMax = 8U << 20;
inline constexpr std::uint32_t kStepFrameBytes = 1U << 20;  // a writer starts another Step frame beyond this
inline constexpr std::uint32_t kLogBytesMax = 4096;  // longer lines are cut

using domain::RequestId;

// front -> worker
struct SubmitFrame {
    RequestId id = 0;
    domain::GenerateRequest request;
    bool operator==(SubmitFrame const&) const = default;
};
struct CancelFrame {
    RequestId id = 0;
    bool operator==(CancelFrame const&) const = default;
};
struct GrantFrame {
    RequestId id = 0;
    std::uint32_t tokens = 0;
    bool operator==(GrantFrame const&) const = default;
};
struct PingFrame {
    std::uint64_t nonce = 0;
    bool operator==(PingFrame const&) const = default;
};
// Finish nothing, exit 0.
struct CloseFrame {
    bool operator==(CloseFrame const&) const = default;
};

// Answered by Report at the end of the step that runs.
struct AskReportFrame {
    std::uint64_t nonce = 0;
    bool operator==(AskReportFrame const&) const = default;
};
// What prefixes in host memory may take from now on; what they take beyond it is given back.
struct LimitCacheFrame {
    std::uint64_t bytes = 0;
    bool operator==(LimitCacheFrame const&) const = default;
};

// Nobody asks for the model for now: give back all but what is slow to make, then say Parked;
// a worker that cannot does as after Close. Only Ping, Wake and Close come until then.
struct ParkFrame {
    bool operator==(ParkFrame const&) const = default;
};
// The model is asked for again: answered as the start was, by Ready. A worker that cannot ends.
struct WakeFrame {
    bool operator==(WakeFrame const&) const = default;
};

// worker -> front
struct LoadingFrame {
    float progress = 0;
    bool operator==(LoadingFrame const&) const = default;
};
struct ReadyFrame {
    domain::ModelInfo info;
    bool operator==(ReadyFrame const&) const = default;
};
struct LoadFailedFrame {
    Error error;
    bool operator==(LoadFailedFrame const&) const = default;
};
struct StepFrame {  // one write per engine step carries the events of all sequences
    struct Entry {
        RequestId id = 0;
        domain::Event event;
        bool operator==(Entry const&) const = default;
    };
    std::vector<Entry> entries;
    bool operator==(StepFrame const&) const = default;
};
struct PongFrame {
    std::uint64_t nonce = 0;
    std::uint64_t heartbeat = 0;
    domain::EngineStats stats;
    bool operator==(PongFrame const&) const = default;
};
struct ReportFrame {
    std::uint64_t nonce = 0;
    domain::EngineReport report;
    bool operator==(ReportFrame const&) const = default;
};
struct ParkedFrame {
    std::uint64_t bytes = 0;  // resident in the worker; 0: not known
    bool operator==(ParkedFrame const&) const = default;
};
struct LogFrame {
    std::uint8_t level = 0;
    std::string text;
    bool operator==(LogFrame const&) const = default;
};

using Frame = std::variant<SubmitFrame, CancelFrame, GrantFrame, PingFrame, CloseFrame, LoadingFrame, ReadyFrame,
                           LoadFailedFrame, StepFrame, PongFrame, LogFrame, AskReportFrame, ReportFrame,
                           LimitCacheFrame, ParkFrame, WakeFrame, ParkedFrame>;

// The frame's bytes, length included. Text that goes to the front is sent as
// valid UTF-8 (see base/utf8.h); a NaN log-probability as -infinity. Fails with
// `too_large` above kFrameBytesMax, `invalid_argument` for a value that decode()
// would refuse.
[[nodiscard]] Result<std::string> encode(Frame const& frame);

// One frame without its length prefix.
[[nodiscard]] Result<Frame> decode(std::string_view body);

// Builds Step frames without copying events, into a buffer it reuses: what a
// worker does on every step.
class StepEncoder {
public:
    StepEncoder();

    // REQUIRES: id > 0
    void add(RequestId id, domain::Event const& event);

    [[nodiscard]] bool empty() const { return entries_ == 0; }
    [[nodiscard]] std::size_t size() const {
        return out_.size();
    }  // bytes so far; beyond kStepFrameBytes: finish and clear

    // The frame, valid until the next call of clear() or add().
    // REQUIRES: !empty()
    [[nodiscard]] std::string_view finish();

    void clear();

private:
    ByteWriter out_;
    std::uint32_t entries_ = 0;
};

// Cuts a byte stream into frames. Holds at most one incomplete frame between
// calls, provided that next() is called until it yields nothing after each push().
class FrameReader {
public:
    explicit FrameReader(std::uint32_t frame_bytes_max = kFrameBytesMax) : frame_bytes_max_(frame_bytes_max) {}

    void push(std::string_view bytes);

    // The next complete frame, nothing when more bytes are needed, or `corrupt`,
    // after which the reader stays failed. A bad length, version or type is
    // found as soon as its bytes are there.
    [[nodiscard]] Result<std::optional<Frame>> next();

private:
    Error fail(std::string message);

    std::uint32_t frame_bytes_max_;
    std::string buffer_;
    std::size_t consumed_ = 0;
    bool failed_ = false;
};

}  // namespace hearth::serving
