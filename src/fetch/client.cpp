#include "fetch/client.h"

#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <boost/asio/ssl/context.hpp>
#include <filesystem>
#include <list>

#include <fmt/format.h>

#include "base/ascii.h"
#include "base/assert.h"
#include "fetch/connection.h"
#include "fetch/throttle.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kRedirectBodyMax = 64U << 10;  // longer ones cost the connection

// Where distributions keep the certificates they trust.
constexpr std::array kCertificateFiles{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                       "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

std::string_view find(HeaderList const& headers, std::string_view name) {
    auto const wanted = ascii_lower(name);
    auto const at = std::ranges::find(headers, wanted, [](auto const& header) -> auto const& { return header.first; });
    return at == headers.end() ? std::string_view() : std::string_view(at->second);
}

bool is_redirect(unsigned status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool carries(Verb verb) { return verb == Verb::post || verb == Verb::put || verb == Verb::patch; }

std::uint64_t length_of(RequestBody const& body) { return body.path.empty() ? body.bytes.size() : body.size; }

// Header values come from names and states on disk: none may end its line.
bool is_field_value(std::string_view text) {
    return std::ranges::none_of(text, [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f; });
}

Status check_fields(Request const& request) {
    for (auto const& [name, value] : request.headers) {
        if (!is_field_value(name) || !is_field_value(value))
            return Error(Code::invalid_argument, fmt::format("the header {} would break its line", name));
    }
    if (!is_field_value(request.authorization) || !is_field_value(request.body.type))
        return Error(Code::invalid_argument, "the token or the content type holds control characters");
    return ok();
}

// The more public of two: what came over the internet once does not become trusted again.
AddressClass more_public(AddressClass a, AddressClass b) { return std::max(a, b); }

}  // namespace

struct Client::Impl {
    Impl(net::Loop& l, ClientOptions o)
        : loop(l),
          options(std::move(o)),
          tls(boost::asio::ssl::context::tls_client),
          pace(options.bytes_per_second, options.throttle) {}

    std::shared_ptr<Connection> take_idle(Url const& url, std::optional<AddressClass> led_from) {
        auto const now = clock.now();
        idle.remove_if([&](auto const& connection) { return now - connection->idle_since > kIdleTime; });
        auto const fits = [&](auto const& connection) {
            return connection->origin() == url.origin() && (!led_from || may_lead_to(*led_from, connection->reached()));
        };
        auto const at = std::ranges::find_if(idle, fits);
        if (at == idle.end()) return nullptr;
        auto connection = *at;
        idle.erase(at);
        return connection;
    }

    // Parsing them takes a tenth of a second: only who uses TLS pays for it.
    void load_system_certificates() {
        if (certificates_loaded || !options.ca_file.empty()) return;
        certificates_loaded = true;
        for (auto const* file : kCertificateFiles) {
            std::error_code missing;
            boost::system::error_code why;
            if (!std::filesystem::is_regular_file(file, missing)) continue;
            tls.load_verify_file(file, why);
            if (!why) return;
        }
    }

    void give_back(std::shared_ptr<Connection> connection) {
        if (!connection->reusable()) return;
        connection->idle_since = clock.now();
        idle.push_front(std::move(connection));
        if (idle.size() > kIdleMax) idle.pop_back();
    }

    [[nodiscard]] std::string head_of(Request const& request, Url const& url) const {
        auto text = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\nAccept-Encoding: identity\r\n",
                                to_string(request.verb), url.target, url.authority(), options.user_agent);
        if (carries(request.verb)) text += fmt::format("Content-Length: {}\r\n", length_of(request.body));
        if (carries(request.verb) && !request.body.type.empty())
            text += fmt::format("Content-Type: {}\r\n", request.body.type);
        for (auto const& [name, value] : request.headers) text += fmt::format("{}: {}\r\n", name, value);
        bool const same_origin = url.origin() == request.url.origin();
        if (same_origin && !request.authorization.empty())
            text += fmt::format("Authorization: {}\r\n", request.authorization);
        return text + "\r\n";
    }

    net::Loop& loop;
    ClientOptions const options;
    boost::asio::ssl::context tls;
    SteadyClock clock;
    Pace pace;
    std::list<std::shared_ptr<Connection>> idle;  // last used first
    bool certificates_loaded = false;
};

std::string_view to_string(Verb verb) noexcept {
    constexpr std::array<std::string_view, 5> kNames{"GET", "HEAD", "POST", "PUT", "PATCH"};
    return kNames[static_cast<std::size_t>(verb)];
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::create(net::Loop& loop, ClientOptions options) {
    auto impl = std::make_unique<Impl>(loop, std::move(options));
    auto& tls = impl->tls;
    boost::system::error_code why;
    SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION);
    tls.set_verify_mode(boost::asio::ssl::verify_peer, why);
    if (!impl->options.ca_file.empty()) {
        tls.load_verify_file(impl->options.ca_file, why);
        if (why)
            return Error(Code::io,
                         fmt::format("cannot read certificates from '{}': {}", impl->options.ca_file, why.message()));
    }
    return std::unique_ptr<Client>(new Client(std::move(impl)));
}

net::Task<Result<std::unique_ptr<Response>>> Client::ask(Request const& request, Url const& url,
                                                         std::optional<AddressClass> led_from) {
    auto const text = impl_->head_of(request, url);
    bool const with_body = carries(request.verb);
    Exchange const exchange{text, with_body ? &request.body : nullptr, request.verb == Verb::head};
    // What carries something goes over a connection that is known to be there: it is not sent twice.
    auto connection = with_body ? nullptr : impl_->take_idle(url, led_from);
    if (request.abort && request.abort->requested()) co_return Error(Code::cancelled, "the request was cancelled");
    if (request.abort && connection) request.abort->watch(connection);
    Result<Head> head = Error(Code::unavailable, "not asked");
    if (connection) head = co_await connection->exchange(exchange);
    // An idle connection may have been closed by the other side meanwhile.
    if (!head && head.error().code == Code::unavailable) {
        if (url.tls) impl_->load_system_certificates();
        connection = std::make_shared<Connection>(impl_->loop, impl_->tls, impl_->options, impl_->pace, url);
        if (request.abort) request.abort->watch(connection);
        auto const opened = co_await connection->open(led_from);
        if (!opened) co_return opened.error();
        head = co_await connection->exchange(exchange);
    }
    if (!head) co_return head.error();
    std::unique_ptr<Response> response(new Response(*this, connection));
    response->status_ = head->status;
    response->headers_ = std::move(head->headers);
    response->content_length_ = head->content_length;
    response->url_ = url;
    response->reached_ = led_from ? more_public(*led_from, connection->reached()) : connection->reached();
    co_return response;
}

net::Task<Result<std::unique_ptr<Response>>> Client::send(Request request) {
    auto const checked = check_fields(request);
    if (!checked) co_return checked.error();
    auto url = request.url;
    auto led_from = request.led_from;
    std::optional<HeaderList> first_redirect;
    for (unsigned redirects = 0;; ++redirects) {
        auto asked = co_await ask(request, url, led_from);
        if (!asked) co_return asked.error();
        auto response = std::move(*asked);
        auto const location = std::string(response->header("location"));
        if (!is_redirect(response->status()) || location.empty()) {
            if (first_redirect) response->redirect_headers_ = std::move(*first_redirect);
            co_return response;
        }
        if (carries(request.verb) && response->status() != 307 && response->status() != 308)
            co_return Error(Code::invalid_argument,
                            fmt::format("{} redirects {} with {}, which is not followed", url.authority(),
                                        to_string(request.verb), response->status()));
        if (redirects == impl_->options.redirects_max)
            co_return Error(Code::invalid_argument, fmt::format("{} redirects more than {} times",
                                                                request.url.text_without_query(), redirects));
        auto next = resolve_url(url, location);
        if (!next) co_return next.error();
        if (url.tls && !next->tls && impl_->options.plain_http == PlainHttp::this_machine)
            co_return Error(Code::invalid_argument, fmt::format("{} redirects from https to {}, which is not followed",
                                                                url.authority(), next->origin()));
        led_from = response->reached();
        if (!first_redirect) first_redirect = response->headers_;
        if (response->content_length().value_or(kRedirectBodyMax + 1) <= kRedirectBodyMax) {
            auto const drained = co_await response->read_all(kRedirectBodyMax);
            if (!drained && drained.error().code == Code::cancelled) co_return drained.error();
        }
        url = std::move(*next);
    }
}

void Abort::request() {
    requested_ = true;
    for (auto const& watched : std::exchange(connections_, {})) {
        if (auto const connection = watched.lock()) connection->close();
    }
}

void Abort::watch(std::shared_ptr<Connection> const& connection) {
    std::erase_if(connections_, [&](auto const& other) { return other.expired() || other.lock() == connection; });
    connections_.push_back(connection);
    if (requested_) connection->close();
}

Response::~Response() {
    if (connection_) connection_->close();
}

std::string_view Response::header(std::string_view name) const { return find(headers_, name); }
std::string_view Response::redirect_header(std::string_view name) const { return find(redirect_headers_, name); }

net::Task<Result<std::size_t>> Response::read(std::span<std::byte> into) {
    if (!connection_) co_return std::size_t{0};
    auto& pace = client_.impl_->pace;
    into = into.first(std::min(into.size(), pace.piece_max()));
    auto const count = co_await connection_->read(into);
    if (!count) co_return count.error();
    if (connection_->reusable()) client_.impl_->give_back(std::exchange(connection_, nullptr));
    auto const wait = pace.pass(*count, client_.impl_->clock.now());
    if (wait > Duration::zero()) co_await client_.impl_->loop.sleep(wait);
    co_return *count;
}

net::Task<Result<std::string>> Response::read_all(std::size_t bytes_max) {
    std::string text;
    if (content_length_.value_or(0) > bytes_max)
        co_return Error(Code::too_large, fmt::format("{} answers with {} bytes, the limit is {}",
                                                     url_.text_without_query(), *content_length_, bytes_max));
    for (;;) {
        auto const had = text.size();
        if (had > bytes_max)
            co_return Error(Code::too_large,
                            fmt::format("{} answers with more than {} bytes", url_.text_without_query(), bytes_max));
        text.resize(std::min(bytes_max + 1, had + (16U << 10)));
        auto const place = std::as_writable_bytes(std::span(text)).subspan(had);
        auto const count = co_await read(place);
        if (!count) co_return count.error();
        text.resize(had + *count);
        if (*count == 0) co_return text;
    }
}

}  // namespace hearth::fetch
