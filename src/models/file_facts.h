// FileFacts, FactsReader: what may be told of a model's files, read beside the
// thread that asks.
//
// Reading a header takes milliseconds on a fast disk and seconds on a slow one;
// the digest needs every byte, which takes minutes for a large model. Neither
// may hold up an event loop, so one thread does both: headers first, digests in
// pieces between them. What was read is kept while path, size and time of
// change stay the same.
//
// Threads: read() from any thread; callbacks come on the reader's own thread,
// must be quick and must not throw. Ownership: owns its thread; destruction
// ends it within a piece and drops the callbacks that are still waiting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "models/gguf.h"
#include "models/report.h"

namespace hearth::models {

struct FileFacts {
    std::uint64_t bytes = 0;       // of all splits
    std::int64_t modified_ns = 0;  // of the split changed last, since 1970
    std::string digest;            // SHA-256 of the bytes of all splits in order, 64 digits; empty: not known yet
    CheckReport report;
    std::vector<GgufFile> files;   // headers, in order; at least one
};
using FactsPointer = std::shared_ptr<FileFacts const>;

class FactsReader {
public:
    static constexpr std::size_t kAsksMax = 1024;  // waiting callers; one more is told `overloaded` at once
    static constexpr std::size_t kKeptMax = 256;   // models whose facts are kept; the longest kept goes first

    enum class Depth : std::uint8_t {
        header,  // the digest only if it is known already
        digest   // waits until the digest is known
    };
    // As read_gguf_model() fails; `io` also for a file that changes while its digest is computed.
    using Done = std::function<void(Result<FactsPointer>)>;

    FactsReader();
    ~FactsReader();
    FactsReader(FactsReader const&) = delete;
    FactsReader& operator=(FactsReader const&) = delete;

    // Calls `done` once, on the reader's thread or, when overloaded, at once on
    // the caller's. `path` is a model's first or only file.
    void read(std::string path, Depth depth, Done done);

private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::models
