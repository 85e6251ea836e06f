#include "http/testing/server_fixture.h"

#include <charconv>
#include <condition_variable>

namespace hearth::http {
namespace {

Response dress(Request const& request, unsigned status, Error const& error) {
    Response response;
    response.status = status;
    response.content_type = "text/plain";
    response.body = std::to_string(status) + " " + error.message + " [" + request.path + "]";
    return response;
}

net::Task<void> drain_then_tell(Server& server, Duration grace, std::shared_ptr<std::promise<bool>> result) {
    bool const finished = co_await server.drain(grace);
    result->set_value(finished);
}

net::Task<void> ping(Exchange& exchange) { return reply(exchange, "pong"); }
net::Task<void> echo(Exchange& exchange) { return reply(exchange, exchange.request().body); }
net::Task<void> show(Exchange& exchange) { return reply(exchange, exchange.request().parameters[0].second); }

}  // namespace

net::Task<void> reply(Exchange& exchange, std::string text) {
    Response response;
    response.content_type = "text/plain";
    response.body = std::move(text);
    co_await exchange.send(std::move(response));
}

void RecordingLog::write(telemetry::Level level, std::string_view message, telemetry::Fields fields) {
    std::string line = std::string(telemetry::to_string(level)) + " " + std::string(message);
    for (auto const& field : fields) {
        line.append(" ").append(field.key).append("=");
        std::visit(
            [&](auto const& value) {
                if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string_view>) line.append(value);
                else line.append(std::to_string(value));
            },
            field.value);
    }
    std::lock_guard const lock(mutex_);
    lines_.push_back(std::move(line));
    written_.notify_all();
}

std::string RecordingLog::wait_for(std::string_view text) {
    std::unique_lock lock(mutex_);
    std::string found;
    written_.wait_for(lock, std::chrono::seconds(20), [&] {
        for (auto const& line : lines_) {
            if (line.find(text) != line.npos) found = line;
        }
        return !found.empty();
    });
    EXPECT_FALSE(found.empty()) << "no line with: " << text;
    return found;
}

std::vector<std::string> RecordingLog::lines() const {
    std::lock_guard const lock(mutex_);
    return lines_;
}

ServerTest::ServerTest() : loop_(std::make_unique<net::Loop>()), released_(std::make_unique<net::Signal>(*loop_)) {}

ServerTest::~ServerTest() {
    if (thread_.joinable()) {
        // Handlers end before what they use does.
        drain(Duration::zero()).get();
        loop_->stop();
        thread_.join();
    }
    server_.reset();
    released_.reset();
    loop_.reset();
}

void ServerTest::start(Options options, std::vector<Route> more) {
    options.port = 0;
    std::vector<Route> routes = standard_routes();
    for (auto& route : more) routes.push_back(std::move(route));
    auto server = Server::create(*loop_, std::move(options), std::move(routes), dress, log_, metrics_);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(server).value();
    port_ = server_->port();
    thread_ = std::thread([this] { loop_->run(); });
}

std::future<bool> ServerTest::drain(Duration grace) {
    auto result = std::make_shared<std::promise<bool>>();
    loop_->post([this, grace, result] { loop_->spawn(drain_then_tell(*server_, grace, result)); });
    return result->get_future();
}

double ServerTest::metric(std::string const& series) {
    std::string const text = "\n" + metrics_.render();
    std::size_t const at = text.find("\n" + series + " ");
    double value = 0;
    if (at != text.npos) std::from_chars(text.data() + at + series.size() + 2, text.data() + text.size(), value);
    return value;
}

void ServerTest::release() {
    loop_->post([this] { released_->notify(); });
}

void ServerTest::await_count(std::atomic<int> const& count, int value) {
    for (int now = count.load(); now < value; now = count.load()) count.wait(now);
}

net::Task<void> ServerTest::wait_for_release(Exchange& exchange) {
    bool gone = false;
    exchange.on_disconnect([this, &gone] {
        gone = true;
        released_->notify();
        ++left;
        left.notify_all();
    });
    ++waiting;
    waiting.notify_all();
    co_await released_->wait();
    if (gone) co_return;
    co_await reply(exchange, "waited");
}

std::vector<Route> ServerTest::standard_routes() {
    std::vector<Route> routes;
    routes.emplace_back(Method::get, "/ping", Permission::anyone, RouteLimits{0}, ping);
    routes.emplace_back(Method::post, "/echo", Permission::infer, RouteLimits{1000}, echo);
    routes.emplace_back(Method::get, "/show/{name}", Permission::observe, RouteLimits{0}, show);
    routes.emplace_back(Method::get, "/rest/{tail...}", Permission::observe, RouteLimits{0}, show);
    routes.emplace_back(Method::get, "/wait", Permission::observe, RouteLimits{0},
                        [this](Exchange& exchange) { return wait_for_release(exchange); });
    return routes;
}

}  // namespace hearth::http
