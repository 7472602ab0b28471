package netsim

// Slower returns the same experiment on a network whose every rate is divided by factor, on which everything that happens
// at a time happens that much later. Round trips stay, and so do sizes. What a run shows as multiples of the bound
// hardly changes, while a machine that plays it with processes has so much less to do in a second.
func (s *Scenario) Slower(factor float64) *Scenario {
	one := *s
	slow := func(rates ...*Rate) {
		for _, r := range rates {
			*r /= Rate(factor)
		}
	}
	late := func(times ...*Duration) {
		for _, d := range times {
			*d = Duration(float64(*d) * factor)
		}
	}
	one.Zones = append([]Zone(nil), s.Zones...)
	for i := range one.Zones {
		z := &one.Zones[i]
		slow(&z.Host.Up, &z.Host.Down, &z.SeedHost.Up, &z.SeedHost.Down, &z.Out, &z.In)
	}
	one.WAN.Pairs = append([]Pair(nil), s.WAN.Pairs...)
	for i := range one.WAN.Pairs {
		slow(&one.WAN.Pairs[i].Rate)
	}
	slow(&one.Origin.Egress, &one.Origin.PerConnection)
	one.Classes = append([]Class(nil), s.Classes...)
	for i := range one.Classes {
		slow(&one.Classes[i].Host.Up, &one.Classes[i].Host.Down)
	}
	one.Arrivals = append([]Arrival(nil), s.Arrivals...)
	for i := range one.Arrivals {
		late(&one.Arrivals[i].At, &one.Arrivals[i].Over)
		one.Arrivals[i].Rate /= factor
	}
	one.Faults = append([]Fault(nil), s.Faults...)
	for i := range one.Faults {
		late(&one.Faults[i].At, &one.Faults[i].For, &one.Faults[i].Spread)
	}
	late(&one.Churn.From, &one.Churn.Until)
	one.Churn.Rate /= factor
	return &one
}
