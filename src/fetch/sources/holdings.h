// Holdings: bytes that need not be fetched, since this machine has them or is getting them.
//
// pull() asks before it fetches a file whose SHA-256 is known. What it is told of is linked
// into its place, and then checked there as any file that is there already, or copied and
// checked on the way: a wrong answer costs time, never a wrong file.
//
// Threads: an implementation is asked from several pulls' threads; calls may block. It
// outlives the pulls that were given it.
#pragma once

#include <optional>
#include <string>

namespace hearth::fetch {

class Holdings {
public:
    virtual ~Holdings() = default;

    // A file that should hold those bytes.
    [[nodiscard]] virtual std::optional<std::string> find(std::string const& sha256) = 0;

    // Whether the caller is the one who gets them now; then it says end(). False: somebody else does.
    [[nodiscard]] virtual bool begin(std::string const& sha256) = 0;
    // `path`: where they are; empty where they did not come.
    virtual void end(std::string const& sha256, std::string const& path) = 0;
};

}  // namespace hearth::fetch
