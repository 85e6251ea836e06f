// What a client would see of an answer, without a connection.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "http/server.h"

namespace hearth::api {

class FakeExchange final : public http::Exchange {
public:
    FakeExchange() { request_.id = "req-1"; }

    [[nodiscard]] http::Request const& request() const override { return request_; }
    net::Task<Result<std::string>> read_body() override { co_return std::string(); }
    net::Task<void> send(http::Response response) override {
        EXPECT_FALSE(response_) << "one answer";
        EXPECT_FALSE(started_);
        response_ = std::move(response);
        co_return;
    }
    net::Task<Status> start_stream(http::StreamHead head) override {
        EXPECT_FALSE(started_);
        started_ = true;
        head_ = std::move(head);
        co_return ok();
    }
    net::Task<Status> write(std::string bytes) override {
        EXPECT_TRUE(started_);
        if (gone_) co_return Error(Code::cancelled, "gone");
        writes_.push_back(std::move(bytes));
        co_return ok();
    }
    net::Task<void> end_stream() override {
        ended_ = true;
        co_return;
    }
    void on_disconnect(std::function<void()> callback) override { callback_ = std::move(callback); }
    [[nodiscard]] bool disconnected() const override { return gone_; }
    [[nodiscard]] bool started() const override { return started_; }

    void leave() {
        gone_ = true;
        if (callback_) std::exchange(callback_, nullptr)();
    }
    [[nodiscard]] std::string written() const {
        std::string all;
        for (auto const& bytes : writes_) all += bytes;
        return all;
    }

    http::Request request_;
    std::optional<http::Response> response_;
    http::StreamHead head_;
    std::vector<std::string> writes_;
    std::function<void()> callback_;
    bool started_ = false;
    bool ended_ = false;
    bool gone_ = false;
};

}  // namespace hearth::api
