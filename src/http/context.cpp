#include "http/context.h"

#include <array>
#include <ctime>
#include <exception>
#include <random>

#include "http/message.h"

namespace hearth::http {
namespace {

// From a cheap GET to a long generation.
std::vector<double> const kSecondsBounds = {0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};

void append_hex(std::uint64_t value, int digits, std::string& out) {
    for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4)
        out.push_back("0123456789abcdef"[(value >> shift) & 0xF]);
}

std::uint64_t random_u64() {
    std::random_device device;
    return (static_cast<std::uint64_t>(device()) << 32) | device();
}

}  // namespace

Metrics::Metrics(telemetry::Registry& registry, std::vector<Route> const& routes)
    : connections(registry.gauge("hearth_http_connections", "Open client connections.")), registry_(registry) {
    for (Route const& route : routes) routes_.push_back({.pattern = route.pattern, .by_answer = {}});
    routes_.push_back({.pattern = "none", .by_answer = {}});
}

void Metrics::answered(std::optional<std::size_t> route, std::string_view method, unsigned status, double seconds) {
    PerRoute& entry = routes_[route.value_or(routes_.size() - 1)];
    if (entry.seconds == nullptr) {
        entry.seconds = &registry_.histogram("hearth_http_request_seconds",
                                             "Time from a request's first byte to its answer's last.", kSecondsBounds,
                                             {"route"}, {entry.pattern});
    }
    entry.seconds->observe(seconds);
    auto const [place, added] = entry.by_answer.try_emplace({std::string(method), status}, nullptr);
    if (added) {
        place->second =
            &registry_.counter("hearth_http_requests_total", "Requests answered.", {"route", "method", "status"},
                               {entry.pattern, std::string(method), std::to_string(status)});
    }
    place->second->add();
}

void Metrics::rejected(std::string_view reason) {
    registry_
        .counter("hearth_http_rejected_total", "Connections and requests the server refused itself.", {"reason"},
                 {std::string(reason)})
        .add();
}

Context::Context(net::Loop& l, Options o, Router r, ErrorRenderer renderer, telemetry::Log& lg,
                 telemetry::Registry& registry)
    : loop(l),
      options(std::move(o)),
      router(std::move(r)),
      access(options),
      render_error(std::move(renderer)),
      log(lg),
      metrics(registry, router.routes()),
      changed(l),
      id_prefix_(random_u64()) {}

Response Context::render(Request const& request, Refusal refusal) {
    Response response;
    try {
        response = render_error(request, refusal.status, refusal.error);
    } catch (std::exception const& problem) {
        log.error("the error renderer failed", {{"request_id", request.id}, {"problem", problem.what()}});
        response.content_type = "text/plain; charset=utf-8";
        response.body = refusal.error.message + "\n";
    }
    response.status = refusal.status;  // the renderer dresses, it does not decide
    for (auto& header : refusal.headers) {  // the server knows better than the catalogue
        std::erase_if(response.headers,
                      [&](auto const& other) { return equals_ignoring_case(other.first, header.first); });
        response.headers.push_back(std::move(header));
    }
    return response;
}

std::string Context::next_request_id() {
    std::string id = "req_";
    append_hex(id_prefix_, 16, id);
    append_hex(id_count_++, 8, id);
    return id;
}

std::string const& Context::date() {
    std::time_t const now = std::time(nullptr);
    if (now != date_second_) {
        date_second_ = now;
        std::tm utc{};
        gmtime_r(&now, &utc);
        // strftime's names follow the locale, HTTP's do not.
        static constexpr std::array<char const*, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static constexpr std::array<char const*, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                                "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        std::array<char, 16> day{};
        std::array<char, 32> clock{};
        std::strftime(day.data(), day.size(), ", %d ", &utc);
        std::strftime(clock.data(), clock.size(), " %Y %H:%M:%S GMT", &utc);
        date_ = kDays[static_cast<std::size_t>(utc.tm_wday)];
        date_.append(day.data()).append(kMonths[static_cast<std::size_t>(utc.tm_mon)]).append(clock.data());
    }
    return date_;
}

}  // namespace hearth::http
