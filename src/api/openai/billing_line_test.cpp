#include "api/openai/billing_line.h"

#include <string>

#include <gtest/gtest.h>

namespace hearth::api::openai {
namespace {

std::string settled(std::string text) {
    settle_billing_line(text);
    return text;
}

TEST(BillingLine, LosesWhatChangesBetweenRequests) {
    EXPECT_EQ(settled("x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch=a5145;You are"),
              "x-anthropic-billing-header: cc_version=2.1.101.000; cc_entrypoint=cli; cch=00000;You are");
    EXPECT_EQ(settled("x-anthropic-billing-header: cch=fa690;"), "x-anthropic-billing-header: cch=00000;");
    EXPECT_EQ(settled("x-anthropic-billing-header: cc_version=2.1.36; cch=ab\nYou are"),
              "x-anthropic-billing-header: cc_version=2.1.36; cch=00\nYou are");
}

TEST(BillingLine, EqualButForThemMeansEqual) {
    EXPECT_EQ(settled("x-anthropic-billing-header: cc_version=2.1.101.e51; cch=a5145; x=1;S"),
              settled("x-anthropic-billing-header: cc_version=2.1.101.07f; cch=00fff; x=1;S"));
}

TEST(BillingLine, OtherTextsStayAsTheyAre) {
    for (std::string const text :
         {"", "You are", "cch=a5145;", " x-anthropic-billing-header: cch=a5145;", "x-anthropic-billing-header:",
          "x-anthropic-billing-header: cch", "x-anthropic-billing-header: cch=", "x-anthropic-billing-header: =a5145;",
          "x-anthropic-billing-header: You are; cch=a5145;", "x-anthropic-billing-header: cch=a text of its own;",
          "x-anthropic-billing-header: cc_entrypoint=cli;You say cch=a5145;",
          "Say x-anthropic-billing-header: cch=a5145;"}) {
        EXPECT_EQ(settled(text), text);
    }
}

TEST(BillingLine, WhatIsTooLongForOneIsNone) {
    auto const text = "x-anthropic-billing-header: cch=" + std::string(65, 'a') + ";";
    EXPECT_EQ(settled(text), text);
    std::string many = "x-anthropic-billing-header:";
    for (int i = 0; i < 16; ++i) many += " a=b;";
    EXPECT_EQ(settled(many + " cch=a;"), many + " cch=a;");
}

}  // namespace
}  // namespace hearth::api::openai
