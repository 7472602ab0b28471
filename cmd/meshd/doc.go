// Command meshd is a node of a container image mesh: a pull-through mirror that shares what it pulls.
//
// This package is thin: it parses flags, environment and the YAML file into a node.Config (config.go), routes logs,
// turns signals into a cancelled context, and starts what a subcommand asks for. `meshd demo` lives in package demo,
// `meshd setup` and `meshd ca` in package setup.
//
// A value comes from the flag, else the environment (MESHD_*), else the file, else node.Default(). The program exits with
// 0 on success, 1 if the work failed, 2 if the command line, environment or file is wrong.
package main
