package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v4"
)

// maxConfigFile bounds what is read of a configuration file.
const maxConfigFile = 1 << 20

// fileConfig is a parsed configuration file: a kong resolver for the flags of `meshd run`.
// Its keys are the flags' names; unknown and doubled keys are refused with their line.
type fileConfig struct {
	name   string
	values map[string]*yaml.Node
	keys   []*yaml.Node // in the order of the file, for errors
}

// configFlag names the configuration file.
type configFlag string

// BeforeResolve is kong's hook to read the file. kong calls it for MESHD_CONFIG whatever the command is.
func (configFlag) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	if cmd := ctx.Selected(); cmd == nil || cmd.Name != "run" {
		return nil
	}
	path, _ := ctx.FlagValue(trace.Flag).(configFlag)
	c, err := readConfig(string(path))
	if err == nil {
		ctx.AddResolver(c)
	}
	return err
}

func readConfig(path string) (*fileConfig, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > maxConfigFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxConfigFile)
	}
	return parseConfig(path, data)
}

// parseConfig reads the file's text; name is for errors.
func parseConfig(name string, data []byte) (*fileConfig, error) {
	c := &fileConfig{name: name, values: map[string]*yaml.Node{}}
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, c.errorf(&second, "a second document: want one")
	} else if err != io.EOF {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	if len(doc.Content) == 0 { // empty, or comments only
		return c, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, c.errorf(root, "want KEY: VALUE lines")
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if _, twice := c.values[key.Value]; twice {
			return nil, c.errorf(key, "key %q is there twice", key.Value)
		}
		c.values[key.Value] = value
		c.keys = append(c.keys, key)
	}
	return c, nil
}

// Validate implements kong.Resolver: it refuses keys that are no flag of `meshd run`.
func (c *fileConfig) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, cmd := range app.Children {
		if cmd.Name != "run" {
			continue
		}
		for _, f := range cmd.Flags {
			known[f.Name] = f.Name != "config" && f.Name != "help"
		}
	}
	for _, key := range c.keys {
		if !known[key.Value] {
			return c.errorf(key, "unknown key %q", key.Value)
		}
	}
	return nil
}

// Resolve implements kong.Resolver. kong asks it before it looks at the environment, so a flag whose variable is set
// is left to that.
func (c *fileConfig) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := c.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil
		}
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if flag.IsSlice() {
		return c.list(flag, value)
	}
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return nil, c.errorf(value, "%s: want one value", flag.Name)
	}
	return value.Value, c.try(flag, value, value.Value)
}

// try parses text as the flag would: kong does so as well, but does not know the line.
func (c *fileConfig) try(flag *kong.Flag, at *yaml.Node, text string) error {
	token := kong.Token{Type: kong.FlagValueToken, Value: text}
	err := flag.Parse(kong.ScanFromTokens(token), reflect.New(flag.Target.Type()).Elem())
	if err != nil {
		return c.errorf(at, "%w", err)
	}
	return nil
}

// list takes one value or a list of them. The result is the text that the flag would be given.
func (c *fileConfig) list(flag *kong.Flag, value *yaml.Node) (any, error) {
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		items = value.Content
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		text, err := c.listItem(flag.Name, item)
		if err != nil {
			return nil, err
		}
		text = kong.JoinEscaped([]string{text}, flag.Tag.Sep)
		if err := c.try(flag, item, text); err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, string(flag.Tag.Sep)), nil
}

func (c *fileConfig) listItem(name string, item *yaml.Node) (string, error) {
	if item.Kind == yaml.AliasNode {
		item = item.Alias
	}
	if item.Kind == yaml.ScalarNode && item.Tag != "!!null" {
		return item.Value, nil
	}
	if name == "registry" && item.Kind == yaml.MappingNode {
		return c.registryItem(item)
	}
	if name == "proxy-rule" && item.Kind == yaml.MappingNode {
		return c.ruleItem(item)
	}
	return "", c.errorf(item, "%s: want a value or a list of values", name)
}

// ruleItem reads the long form of a proxy rule, {host: HOST[:PORT], action: ACTION} or {regexp: REGEXP, action: ACTION},
// to the flag's text.
func (c *fileConfig) ruleItem(item *yaml.Node) (string, error) {
	var pattern, action string
	for i := 0; i+1 < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		if value.Kind != yaml.ScalarNode {
			return "", c.errorf(value, "proxy-rule: %s: want one value", key.Value)
		}
		switch {
		case key.Value == "host" && pattern == "":
			pattern = value.Value
		case key.Value == "regexp" && pattern == "":
			pattern = "/" + value.Value + "/"
		case key.Value == "action":
			action = value.Value
		default:
			return "", c.errorf(key, "proxy-rule: key %q: want action, and host or regexp", key.Value)
		}
	}
	return pattern + "=" + action, nil
}

// registryItem reads the long form of a registry, {host: HOST, url: URL, mirror: [URL, URL], ca: FILE, insecure: true} with
// the options of the flag as keys, to the flag's text. url and mirror may be lists.
func (c *fileConfig) registryItem(item *yaml.Node) (string, error) {
	var host string
	var addresses, options []string
	for i := 0; i+1 < len(item.Content); i += 2 {
		key, value := item.Content[i], item.Content[i+1]
		values, err := c.registryValues(key, value)
		if err != nil {
			return "", err
		}
		switch key.Value {
		case "host":
			host = values[0]
		case "url":
			addresses = values
		case "mirror", "ca", "cert", "key", "credentials":
			for _, v := range values {
				options = append(options, key.Value+"="+v)
			}
		case "insecure":
			var on bool
			if err := value.Decode(&on); err != nil {
				return "", c.errorf(value, "registry: insecure: want true or false")
			}
			if on {
				options = append(options, "insecure")
			}
		default:
			return "", c.errorf(key, "registry: unknown key %q: want host, url, mirror, ca, cert, key, credentials or insecure", key.Value)
		}
	}
	for i := range addresses[min(1, len(addresses)):] {
		addresses[i+1] = "url=" + addresses[i+1]
	}
	return host + "=" + strings.Join(append(addresses, options...), ","), nil
}

// registryValues reads one key of a registry: one value, of url and mirror also a list.
func (c *fileConfig) registryValues(key, value *yaml.Node) ([]string, error) {
	items := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode && (key.Value == "url" || key.Value == "mirror") {
		items = value.Content
	}
	var values []string
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || strings.Contains(item.Value, ",") {
			return nil, c.errorf(item, "registry: %s: want one value without a comma", key.Value)
		}
		values = append(values, item.Value)
	}
	return values, nil
}

func (c *fileConfig) errorf(at *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", c.name, at.Line, fmt.Errorf(format, args...))
}
