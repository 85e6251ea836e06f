// CallList: the calls that are inside at the moment, as clients may list and
// cancel them.
//
// A call is known by two ids: that of its HTTP request (x-request-id), which a
// client may have chosen and so need not be unique, and that of its answer.
//
// Threads: the loop's. Ownership: an entry leaves the list when the call that
// holds it ends; both may outlive Services, so they are shared.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/event_source.h"
#include "base/clock.h"
#include "domain/generate.h"

namespace hearth::api {

struct CallInfo {
    std::string request_id;  // x-request-id
    std::string answer_id;   // chatcmpl-..., cmpl-...
    std::string model;       // id of the model that answers
    std::string path;
    std::string tenant;
    domain::Priority priority = domain::Priority::normal;
    domain::SamplingParams sampling;
    std::uint32_t choices = 1;  // per generation
    std::optional<std::uint32_t> max_tokens;
    bool stream = false;
    Instant arrived{};
    std::vector<domain::RequestId> generations;
};

// What events told so far, summed over the generations.
struct CallProgress {
    std::uint32_t started = 0;  // generations
    std::uint32_t prompt_tokens = 0;
    std::uint32_t cached_tokens = 0;
    std::uint32_t generated_tokens = 0;
    bool cancelled = false;  // by cancel()
};

class CallList : public std::enable_shared_from_this<CallList> {
public:
    struct Entry {
        CallInfo info;
        CallProgress progress;
        std::weak_ptr<EventSource> source;
    };

    // Listed as long as the caller holds the entry.
    [[nodiscard]] std::shared_ptr<Entry> enter(CallInfo info, std::weak_ptr<EventSource> source);

    // An entry of no list.
    [[nodiscard]] static std::shared_ptr<Entry> unlisted() { return std::make_shared<Entry>(); }

    // In order of arrival.
    void for_each(std::function<void(Entry const&)> const& visit) const;

    // The call that has that generation; null if none has.
    [[nodiscard]] Entry const* find(domain::RequestId generation) const;

    // Ends every call of `tenant` with that id. False if there is none.
    bool cancel(std::string_view id, std::string_view tenant);

private:
    std::list<Entry*> entries_;
};

}  // namespace hearth::api
