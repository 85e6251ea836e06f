// QuantCache: models that were made once, kept in one folder.
//
// A model's key is what it was made from and by: the SHA-256 of its source, the
// type of its weights, the quantiser's version and the conversion's. KEY.gguf is
// the model, KEY.entry says how long it is and what its checksum (XXH3, 128 bits)
// is, and is written last: a model without entry, which a crash leaves, is made
// again. Every time it is asked for, all of it is read and compared: a damaged
// one is made again, never given.
//
// Bounded: after a model was made, those asked for longest ago go until what is
// left fits, except for those that somebody holds. One that does not fit alone is
// refused.
//
// Threads and processes: any number may use one folder, also at once; who asks for
// what another makes waits for it. Ownership: an Entry holds its model, as long as
// it lives no process removes it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "formats/form.h"
#include "formats/make.h"

namespace hearth::formats {

// Of what convert() writes: raised when a release writes other bytes for the same folder.
inline constexpr std::uint32_t kConversionVersion = 2;

class QuantCache {
public:
    struct Options {
        std::string folder;  // made, for the user alone, if it is not there
        std::uint64_t bytes_max = 0;
        std::string quantizer;  // its version
    };

    struct Entry {
        std::string path;
        bool made = false;           // just now, not found
        std::shared_ptr<void> hold;  // keeps it from being removed
    };

    explicit QuantCache(Options options) : options_(std::move(options)) {}

    // The model that `source` becomes in `form`. As make() fails, and `too_large` for
    // one that is larger than the whole cache.
    [[nodiscard]] Result<Entry> provide(std::string const& source, Form const& form, Workshop const& workshop,
                                        Watch const& watch) const;

private:
    [[nodiscard]] Result<Entry> make_entry(std::string const& key, std::string const& source, Form const& form,
                                           Workshop const& workshop, Watch const& watch) const;
    [[nodiscard]] std::string path(std::string const& key, std::string_view ending) const;
    void trim(std::string const& kept) const;

    Options const options_;
};

}  // namespace hearth::formats
