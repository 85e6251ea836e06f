// Context: what all connections of one server share: options, routes, policy,
// metrics, the lists of connections that limits and drain need.
//
// Private to http. The loop's thread only. Shared: the server and each
// connection keep it, so a connection may outlive its server by a few turns.
#pragma once

#include <algorithm>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "http/access.h"
#include "http/refusal.h"
#include "http/router.h"
#include "http/wire.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::http {

class Connection;

inline constexpr std::size_t kRefusingMax = 64;             // connections that are being told 503
inline constexpr std::size_t kInputBytesMin = 64U << 10;
inline constexpr Duration kLingerTime = std::chrono::seconds(2);
// Read and dropped so that the client reads our answer: most clients send a whole body before they look.
inline constexpr std::size_t kLingerBytesMax = 64U << 20;

// Counters of the whole server, and of each route under "METHOD status".
class Metrics {
public:
    Metrics(telemetry::Registry& registry, std::vector<Route> const& routes);

    // `route` is the route's index, or none for what found no route.
    void answered(std::optional<std::size_t> route, std::string_view method, unsigned status, double seconds);
    void rejected(std::string_view reason);
    telemetry::Gauge& connections;

private:
    struct PerRoute {
        std::string pattern;
        telemetry::Histogram* seconds = nullptr;
        std::map<std::pair<std::string, unsigned>, telemetry::Counter*> by_answer;
    };
    telemetry::Registry& registry_;
    std::vector<PerRoute> routes_;  // the last one: no route
};

struct Context {
    Context(net::Loop& l, Options o, Router r, ErrorRenderer renderer, telemetry::Log& lg,
            telemetry::Registry& registry);

    // The dialect's answer to a refusal; a plain one if the renderer throws.
    [[nodiscard]] Response render(Request const& request, Refusal refusal);

    // "req_" and 24 hexadecimal digits, unique in this process and very likely elsewhere.
    [[nodiscard]] std::string next_request_id();

    // What one connection may send ahead of what is being read.
    [[nodiscard]] std::size_t input_max() const { return std::max(options.header_bytes_max + 1, kInputBytesMin); }

    // The Date header's value, formatted once a second.
    [[nodiscard]] std::string const& date();

    net::Loop& loop;
    Options const options;
    Router const router;
    AccessPolicy const access;
    ErrorRenderer const render_error;
    telemetry::Log& log;
    Metrics metrics;
    std::shared_ptr<Scratch> scratch = std::make_shared<Scratch>();

    std::unordered_set<Connection*> connections;
    std::size_t open = 0;            // of them, those not closed yet
    std::list<Connection*> idle;     // longest first
    std::size_t receiving = 0;       // connections that have sent part of a request
    std::size_t exchanges = 0;       // between a complete head and the end of its answer
    std::size_t refusing = 0;
    bool draining = false;
    net::Signal changed;             // while draining: a request was finished

private:
    std::uint64_t const id_prefix_;
    std::uint32_t id_count_ = 0;
    std::int64_t date_second_ = -1;
    std::string date_;
};

}  // namespace hearth::http
