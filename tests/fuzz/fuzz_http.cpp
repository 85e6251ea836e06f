// Untrusted bytes as what a client sends on a connection, through the whole
// server: parsing, access checks, routing, bodies, keep-alive, refusals. How the
// bytes are cut into packets must not change which requests are seen; what
// reaches a handler must keep the promises of http/server.h.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "http/server.h"
#include "net/loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace {

using namespace hearth;

constexpr std::size_t kInputMax = 64U << 10;  // fits into a socket's buffer
constexpr std::size_t kBodyMax = 4096;
constexpr std::size_t kPiecesMax = 48;

void require(bool holds, char const* what) {
    if (holds) return;
    std::fprintf(stderr, "broken property: %s\n", what);
    std::abort();
}

bool has_control(std::string_view text) {
    return std::ranges::any_of(text,
                               [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; });
}

void check(http::Request const& request) {
    require(request.path.starts_with('/') && is_valid_utf8(request.path) && !has_control(request.path),
            "a path is clean UTF-8");
    require((request.path + "/").find("/../") == std::string::npos, "no path climbs");
    require(request.body.size() <= kBodyMax, "a body is within its limit");
    require(!request.id.empty() && request.id.size() <= 128, "a request has an id");
    for (auto const& [name, value] : request.headers) {
        require(!name.empty() && !has_control(name) && !has_control(value), "a header is one line");
    }
}

class Harness {
public:
    Harness() : log_(telemetry::make_null_log()) {
        http::Options options;
        options.port = 0;
        auto server = http::Server::create(
            loop_, options, routes(),
            [this](http::Request const&, unsigned status, Error const& error) { return refuse(status, error); }, *log_,
            metrics_);
        require(server.has_value(), "the server starts");
        server_ = std::move(server).value();
    }

    // What the server saw of `bytes`, sent `portion` at a time.
    std::vector<std::string> run(std::string_view bytes, std::size_t portion) {
        int ends[2];
        require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "a socket pair");
        bool closed = false;
        std::string answers;
        server_->adopt(ends[0]);
        net::Pipe client(
            loop_, ends[1], [&](std::string_view more) { answers.append(more); },
            [&] {
                closed = true;
                if (turns_left_ == 0) loop_.stop();  // else turn() is still counting
            });
        seen_.clear();
        while (!bytes.empty() && !closed) {
            std::string_view const piece = bytes.substr(0, portion);
            bytes.remove_prefix(piece.size());
            if (::send(ends[1], piece.data(), piece.size(), MSG_NOSIGNAL) < 0) break;
            turn(6);
        }
        if (!closed) ::shutdown(ends[1], SHUT_WR);
        while (!closed) loop_.run();
        require(answers.empty() || answers.starts_with("HTTP/1.1 "), "answers are HTTP");
        require(server_->active_exchanges() == 0, "nothing is left running");
        return std::move(seen_);
    }

private:
    // Runs the loop for `count` rounds, no fewer: nothing of it stays queued.
    void turn(int count) {
        turns_left_ = count;
        loop_.post([this] { step(); });
        loop_.run();
    }

    void step() {
        if (--turns_left_ > 0) loop_.post([this] { step(); });
        else loop_.stop();
    }

    std::vector<http::Route> routes() {
        http::Handler const handler = [this](http::Exchange& exchange) { return answer(exchange); };
        std::vector<http::Route> routes;
        routes.emplace_back(http::Method::get, "/", http::Permission::anyone, http::RouteLimits{0}, handler);
        routes.emplace_back(http::Method::get, "/a/{name}", http::Permission::anyone, http::RouteLimits{0}, handler);
        routes.emplace_back(http::Method::post, "/a/{name}", http::Permission::anyone, http::RouteLimits{kBodyMax},
                            handler);
        routes.emplace_back(http::Method::post, "/b/{rest...}", http::Permission::anyone, http::RouteLimits{16},
                            handler);
        return routes;
    }

    net::Task<void> answer(http::Exchange& exchange) {
        http::Request const& request = exchange.request();
        check(request);
        seen_.push_back(request.path + "?" + request.query + "\n" + request.body);
        http::Response response;
        response.body = request.body;
        co_await exchange.send(std::move(response));
    }

    http::Response refuse(unsigned status, Error const& error) {
        require(is_valid_utf8(error.message), "an error is UTF-8");
        require(status >= 400 && status != 500, "a refusal is the client's fault");
        seen_.push_back("refused");
        http::Response response;
        response.body = error.message;
        return response;
    }

    // What a connection uses outlives the loop, which ends those still open.
    std::unique_ptr<telemetry::Log> log_;
    telemetry::Registry metrics_;
    net::Loop loop_;
    std::unique_ptr<http::Server> server_;
    std::vector<std::string> seen_;
    int turns_left_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    static Harness harness;
    if (size < 2 || size > kInputMax) return 0;
    std::string_view const bytes(reinterpret_cast<char const*>(data) + 1, size - 1);
    auto const whole = harness.run(bytes, bytes.size());
    auto const cut = harness.run(bytes, std::max<std::size_t>(data[0] % 64U + 1U, bytes.size() / kPiecesMax));
    require(whole == cut, "cutting the bytes elsewhere shows the same requests");
    return 0;
}
