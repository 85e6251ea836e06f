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
// Threads: one per object.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "domain/generate.h"
#include "domain/model.h"

namespace hearth::serving {

inline constexpr std::uint16_t kFrameVersion = 1;
inline constexpr std::uint32_t kFrameBytesMax = 64U << 20;

using domain::RequestId;

// front -> worker
struct SubmitFrame { RequestId id = 0; domain::GenerateRequest request; bool operator==(SubmitFrame const&) const = default; };
struct CancelFrame { RequestId id = 0; bool operator==(CancelFrame const&) const = default; };
struct GrantFrame { RequestId id = 0; std::uint32_t tokens = 0; bool operator==(GrantFrame const&) const = default; };
struct PingFrame { std::uint64_t nonce = 0; bool operator==(PingFrame const&) const = default; };
struct CloseFrame { bool operator==(CloseFrame const&) const = default; };  // finish nothing, exit 0

// worker -> front
struct LoadingFrame { float progress = 0; bool operator==(LoadingFrame const&) const = default; };
struct ReadyFrame { domain::ModelInfo info; bool operator==(ReadyFrame const&) const = default; };
struct LoadFailedFrame { Error error; bool operator==(LoadFailedFrame const&) const = default; };
struct StepFrame {  // one write per engine step carries the events of all sequences
    struct Entry { RequestId id = 0; domain::Event event; bool operator==(Entry const&) const = default; };
    std::vector<Entry> entries;
    bool operator==(StepFrame const&) const = default;
};
struct PongFrame { std::uint64_t nonce = 0; std::uint64_t heartbeat = 0; domain::EngineStats stats; bool operator==(PongFrame const&) const = default; };
struct LogFrame { std::uint8_t level = 0; std::string text; bool operator==(LogFrame const&) const = default; };

using Frame = std::variant<SubmitFrame, CancelFrame, GrantFrame, PingFrame, CloseFrame, LoadingFrame, ReadyFrame, LoadFailedFrame,
                           StepFrame, PongFrame, LogFrame>;

// The frame's bytes, length included. Fails with `too_large` above kFrameBytesMax.
[[nodiscard]] Result<std::string> encode(Frame const& frame);

// One frame without its length prefix.
[[nodiscard]] Result<Frame> decode(std::string_view body);

// Cuts a byte stream into frames. Holds at most one incomplete frame.
class FrameReader {
public:
    void push(std::string_view bytes);

    // The next complete frame, nothing when more bytes are needed, or `corrupt`,
    // after which the reader stays failed.
    [[nodiscard]] Result<std::optional<Frame>> next();

private:
    std::string buffer_;
    std::size_t consumed_ = 0;
    bool failed_ = false;
};

}  // namespace hearth::serving
